# SPDX-License-Identifier: GPL-2.0-or-later
"""Running: suites and lanes, the fork spawner that watches every test, exit status, summary line."""
