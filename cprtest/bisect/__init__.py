# SPDX-License-Identifier: GPL-2.0-or-later
"""`scripts/bisect`: which commit of QEMU made a test fail."""
