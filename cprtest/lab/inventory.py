# SPDX-License-Identifier: GPL-2.0-or-later
"""What a lab offers, as JSON on standard output. Runs inside the lab."""

import json
import os
from pathlib import Path
from typing import Any

from cprtest.host.hostfile import HostDevice, allowed_devices

NODES = ("/dev/kvm", "/dev/vhost-net", "/dev/vhost-vsock", "/dev/net/tun", "/dev/vfio/vfio")


def inventory() -> dict[str, Any]:
    """Kernel, size, device nodes and devices of the machine this runs on."""
    memory = int(Path("/proc/meminfo").read_text().split()[1])
    return {
        "kernel": os.uname().release,
        "cpus": os.cpu_count(),
        "memory_mib": memory >> 10,
        "hugepages": int(Path("/proc/sys/vm/nr_hugepages").read_text()),
        "nodes": {node: Path(node).exists() for node in NODES},
        "devices": [describe(device) for device in allowed_devices()],
    }


def describe(device: HostDevice) -> dict[str, Any]:
    """One device of the host file with what sysfs says of it (Documentation/ABI/testing/sysfs-bus-pci)."""
    path = Path("/sys/bus/pci/devices") / device.address
    driver, group, resets = path / "driver", path / "iommu_group", path / "reset_method"
    return {
        "role": device.role,
        "address": device.address,
        "id": f"{_word(path / 'vendor')}:{_word(path / 'device')}",
        "driver": driver.resolve().name if driver.exists() else None,
        "group": int(group.resolve().name) if group.exists() else None,
        "alone_in_group": len(list((group / "devices").iterdir())) == 1 if group.exists() else None,
        "reset_method": resets.read_text().split() if resets.exists() else [],
        "wire": device.wire,
    }


def _word(path: Path) -> str:
    return path.read_text().strip().removeprefix("0x")


if __name__ == "__main__":
    print(json.dumps(inventory()))
