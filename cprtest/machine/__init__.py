# SPDX-License-Identifier: GPL-2.0-or-later
"""One QEMU process: its command line, QMP, trace, exit; and the saved states that guests start from."""
