# SPDX-License-Identifier: GPL-2.0-or-later
"""Does the suite notice? Tests against the mutants build of QEMU, one fault at a time: `scripts/mutants`."""
