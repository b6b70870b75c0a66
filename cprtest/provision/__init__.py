# SPDX-License-Identifier: GPL-2.0-or-later
"""What is fetched or built before a test can run. Tests import only `installed`.

Everything but `qemu` and the guest image runs before the venv exists: standard library only.
"""
