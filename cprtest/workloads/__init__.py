# SPDX-License-Identifier: GPL-2.0-or-later
"""Load inside the guest, and the checker that judges it. One module each."""
