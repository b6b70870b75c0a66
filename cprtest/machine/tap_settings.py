# SPDX-License-Identifier: GPL-2.0-or-later
"""How the guest's first NIC and its tap are set: what a hand-over has to leave as it was."""

from typing import Any

from cprtest.guest.guest import Guest
from cprtest.host import tap
from cprtest.host.network import Network


def settings(guest: Guest, network: Network) -> dict[str, Any]:
    """What the host, QEMU and the guest say of tap0 and eth0. Raises OSError or CprError."""
    return {
        "queues": tap.queues(guest.machine.pid),
        "interface": tap.interface(network, "tap0"),
        "filters": guest.machine.qmp.command("query-rx-filter"),
        "guest": guest.run("ethtool -k eth0; ethtool -l eth0; cat /sys/class/net/eth0/flags"),
    }
