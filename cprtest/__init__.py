# SPDX-License-Identifier: GPL-2.0-or-later
"""Functional tests of QEMU's cpr-transfer: the library that tests are written in."""
