# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab: a throw-away VM on this host's own files that has KVM, vhost, VFIO and devices to pass through."""

from cprtest.lab.launch import Settings, run
from cprtest.lab.session import LabError

__all__ = ["LabError", "Settings", "run"]
