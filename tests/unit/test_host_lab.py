# SPDX-License-Identifier: GPL-2.0-or-later
"""Passthrough devices and wires of the lab, really taken and really given back. Skipped outside it:

scripts/lab run -- .venv/bin/python -m pytest -p no:cacheprovider tests/unit/test_host_lab.py
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cprtest.host import processes, vfio
from cprtest.host.hostfile import allowed_devices
from cprtest.host.network import Network
from cprtest.host.pci import VFIO_PCI, PciDevice
from cprtest.host.programs import program
from cprtest.host.runs import Run, clean_leftovers
from cprtest.limits import wait_until
from cprtest.paths import CHECKOUT, lane

pytestmark = pytest.mark.skipif(lane() != "lab", reason="needs the lab's devices")

# Takes every device and a wire, keeps a process in the namespace, and waits to be killed.
TAKER = """
import signal, subprocess, sys
from cprtest.host import hostfile, vfio
from cprtest.host.network import Network
from cprtest.host.pci import PciDevice
from cprtest.host.runs import Run
run = Run.start()
for device in hostfile.allowed_devices():
    vfio.bind(PciDevice(device.address), run)
network = Network()
network.adopt(sys.argv[1])
network.popen(["sleep", "600"])
print("taken", flush=True)
signal.pause()
"""


@pytest.fixture(scope="module", autouse=True)
def drivers() -> None:
    """The lab loads drivers late; here they have to be there, so that there is something to give back to."""
    subprocess.run([program("modprobe"), "-a", "nvme", "e1000e", "vfio-pci"], check=True)
    disk = Path("/sys/class/block/nvme0n1")
    wait_until("the NVMe driver to show the disk", disk.exists, 5)


def drivers_now() -> dict[str, str | None]:
    return {device.address: PciDevice(device.address).driver for device in allowed_devices()}


def wire() -> str:
    return next(device.wire for device in allowed_devices() if device.wire)


@pytest.mark.parametrize("role", ["virtio-net", "igb-vf", "nvme", "ivshmem", "e1000e"])
def test_device_is_taken_and_given_back(role: str) -> None:
    before = drivers_now()
    with Run.start(), vfio.assigned(role) as device:
        taken = PciDevice(device.address)
        assert taken.driver == VFIO_PCI and Path(f"/dev/vfio/{taken.iommu_group}").exists()
    assert drivers_now() == before


def test_disk_in_use_is_refused() -> None:
    (address,) = (device.address for device in allowed_devices() if device.role == "nvme")
    descriptor = os.open("/dev/nvme0n1", os.O_RDONLY | os.O_EXCL)
    try:
        with (
            Run.start() as run,
            pytest.raises(vfio.Refused, match=r"nvme0n1, which something .* has claimed"),
        ):
            vfio.bind(PciDevice(address), run)
    finally:
        os.close(descriptor)
    subprocess.run([program("mkswap"), "/dev/nvme0n1"], check=True, capture_output=True)
    subprocess.run([program("swapon"), "/dev/nvme0n1"], check=True)
    try:
        with Run.start() as run, pytest.raises(vfio.Refused, match="used as swap"):
            vfio.bind(PciDevice(address), run)
    finally:
        subprocess.run([program("swapoff"), "/dev/nvme0n1"], check=True)


def test_nic_with_an_address_is_refused() -> None:
    (device,) = (PciDevice(d.address) for d in allowed_devices() if d.role == "virtio-net")
    (interface,) = device.interfaces
    subprocess.run([program("ip"), "addr", "add", "10.97.0.1/24", "dev", interface], check=True)
    try:
        with Run.start() as run, pytest.raises(vfio.Refused, match=r"has the address 10\.97\.0\.1"):
            vfio.bind(device, run)
    finally:
        subprocess.run([program("ip"), "addr", "flush", "dev", interface], check=True)


def test_wire_reaches_the_nic_at_its_other_end_and_comes_back() -> None:
    (device,) = (d for d in allowed_devices() if d.role == "virtio-net")
    (interface,) = PciDevice(device.address).interfaces
    assert device.wire
    lines = f"addr add 10.97.1.2/24 dev {interface}\nlink set dev {interface} up\n"
    subprocess.run([program("ip"), "-batch", "-"], input=lines, text=True, check=True)
    try:
        with Network() as network:
            network.adopt(device.wire, address="10.97.1.1/24")
            assert not Path("/sys/class/net", device.wire).exists()
            assert network.ping("10.97.1.2") > 0
        assert Path("/sys/class/net", device.wire).exists()
    finally:
        subprocess.run([program("ip"), "addr", "flush", "dev", interface], check=True)


def test_everything_of_a_killed_run_is_given_back() -> None:
    before = drivers_now()
    environ = {key: value for key, value in os.environ.items() if key != processes.MARK}
    argv = [sys.executable, "-c", TAKER, wire()]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environ, cwd=CHECKOUT) as taker:
        assert taker.stdout is not None and taker.stdout.readline() == "taken\n"
        taker.kill()
    assert set(drivers_now().values()) == {VFIO_PCI}

    said = clean_leftovers()

    assert drivers_now() == before
    assert any("sleep" in sentence for sentence in said)
    assert sum("Gave" in sentence for sentence in said) == len(before)
    there = Path("/sys/class/net", wire())
    wait_until("the kernel to hand the wire back", there.exists, 5)
