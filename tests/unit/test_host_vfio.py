# SPDX-License-Identifier: GPL-2.0-or-later
"""What may be taken from the host: the rules, on a sysfs tree made of files. The lab tests the rest."""

import json
from pathlib import Path

import pytest

from cprtest.errors import UsageError
from cprtest.host import hostfile
from cprtest.host.hostfile import HostDevice, allowed_devices
from cprtest.host.pci import PciDevice
from cprtest.host.proposal import candidates, propose
from cprtest.host.vfio_safety import Host, refusals

NIC, DISK, OTHER, PORT = "0000:01:00.0", "0000:02:00.0", "0000:01:00.1", "0000:00:01.0"
ROUTES = "Iface Destination Gateway Flags RefCnt Use Metric Mask\n"


class Tree:
    """A machine's sysfs, /proc and /dev, as far as the rules look at them."""

    def __init__(self, root: Path) -> None:
        self.sysfs = root / "sys"
        self.addresses: dict[str, list[str]] = {}
        self.host = Host(root / "proc", root / "dev", lambda name: self.addresses.get(name, []))
        for directory in (root / "proc/self", root / "proc/net", root / "dev"):
            directory.mkdir(parents=True)
        self.mounts("")
        self.swap("")
        self.routes("")

    def add(self, address: str, group: int | None, driver: str | None = None, kind: str = "0x020000") -> Path:
        """A PCI device."""
        path = self.sysfs / "devices/pci0000:00" / address
        path.mkdir(parents=True)
        (path / "class").write_text(kind)
        self.link(self.sysfs / "bus/pci/devices" / address, path)
        if driver:
            self.link(path / "driver", self.sysfs / "bus/pci/drivers" / driver)
        if group is not None:
            self.link(path / "iommu_group", self.sysfs / "kernel/iommu_groups" / str(group))
            self.link(self.sysfs / "kernel/iommu_groups" / str(group) / "devices" / address, path)
        return path

    def interface(self, device: Path, name: str) -> Path:
        """A network interface of a virtio device below `device`."""
        path = device / "virtio0/net" / name
        path.mkdir(parents=True)
        self.link(self.sysfs / "class/net" / name, path)
        return path

    def disk(self, directory: Path, name: str, number: str, partition_of: str | None = None) -> Path:
        """A block device, or a partition of one, at `directory`/`name`."""
        path = directory / name
        path.mkdir(parents=True)
        (path / "dev").write_text(number + "\n")
        if partition_of:
            (path / "partition").write_text("1\n")
        self.link(self.sysfs / "class/block" / name, path)
        return path

    def mounts(self, text: str) -> None:
        (self.host.proc / "self/mountinfo").write_text(text)

    def swap(self, text: str) -> None:
        (self.host.proc / "swaps").write_text("Filename Type Size Used Priority\n" + text)

    def routes(self, text: str) -> None:
        (self.host.proc / "net/route").write_text(ROUTES + text)

    def refusals(self, address: str, *allowed: str) -> list[str]:
        return refusals(PciDevice(address, self.sysfs), set(allowed or (address,)), self.host)

    @staticmethod
    def link(at: Path, target: Path) -> None:
        at.parent.mkdir(parents=True, exist_ok=True)
        target.mkdir(parents=True, exist_ok=True)
        at.symlink_to(target)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_listed_and_unused_device_may_be_taken(tree: Tree) -> None:
    tree.interface(tree.add(NIC, 7, "virtio-pci"), "eth1")
    assert tree.refusals(NIC) == []


def test_device_that_is_not_listed_is_refused(tree: Tree) -> None:
    tree.add(NIC, 7)
    assert tree.refusals(NIC, DISK) == [f"{NIC} is not in the host file, so the tests may not touch it."]


def test_device_that_is_not_there_is_refused(tree: Tree) -> None:
    assert "no PCI device" in tree.refusals(NIC)[0]


def test_virtual_function_of_a_listed_device_may_be_taken(tree: Tree) -> None:
    tree.add(NIC, 7)
    tree.link(tree.add("0000:01:10.0", 8) / "physfn", tree.sysfs / "devices/pci0000:00" / NIC)
    assert tree.refusals("0000:01:10.0", NIC) == []


def test_without_iommu_refused(tree: Tree) -> None:
    tree.add(NIC, None)
    assert "IOMMU is missing" in tree.refusals(NIC)[0]


@pytest.mark.parametrize(
    ("driver", "kind", "listed", "refused"),
    [
        ("e1000e", "0x020000", False, True),
        ("e1000e", "0x020000", True, False),
        ("vfio-pci", "0x020000", False, False),
        (None, "0x020000", False, False),
        ("pcieport", "0x060400", False, False),
    ],
)
def test_company_in_the_iommu_group(
    tree: Tree, driver: str | None, kind: str, listed: bool, refused: bool
) -> None:
    tree.add(NIC, 7)
    tree.add(OTHER, 7, driver, kind)
    said = tree.refusals(NIC, NIC, *([OTHER] if listed else []))
    assert bool(said) == refused
    assert not refused or f"group 7 with {OTHER}" in said[0]


def test_mounted_partition(tree: Tree) -> None:
    disk = tree.disk(tree.add(DISK, 8, "nvme") / "nvme/nvme0", "nvme0n1", "259:0")
    tree.disk(disk, "nvme0n1p1", "259:1", partition_of="nvme0n1")
    tree.mounts("30 1 259:1 / /home rw,relatime shared:1 - ext4 /dev/nvme0n1p1 rw\n")
    assert tree.refusals(DISK) == [f"{DISK} carries nvme0n1p1, which is mounted on /home."]


def test_mount_that_shows_the_name_only(tree: Tree) -> None:
    """btrfs shows a device number of its own."""
    tree.disk(tree.add(DISK, 8) / "nvme/nvme0", "nvme0n1", "259:0")
    tree.mounts(f"30 1 0:45 / /data rw - btrfs {tree.host.dev}/nvme0n1 rw\n")
    assert "mounted on /data" in tree.refusals(DISK)[0]


def test_mounted_volume_on_top_of_a_disk(tree: Tree) -> None:
    disk = tree.disk(tree.add(DISK, 8) / "nvme/nvme0", "nvme0n1", "259:0")
    volume = tree.disk(tree.sysfs / "devices/virtual/block", "dm-0", "254:0")
    tree.link(disk / "holders/dm-0", volume)
    tree.mounts("30 1 254:0 / / rw - ext4 /dev/mapper/root rw\n")
    assert tree.refusals(DISK) == [f"{DISK} carries dm-0, which is mounted on /."]


def test_mounted_multipath_namespace(tree: Tree) -> None:
    tree.disk(tree.add(DISK, 8) / "nvme/nvme0", "nvme0c0n1", "259:1")
    tree.disk(tree.sysfs / "devices/virtual/nvme-subsystem/nvme-subsys0", "nvme0n1", "259:0")
    tree.mounts("30 1 259:0 / /srv rw - xfs /dev/nvme0n1 rw\n")
    assert tree.refusals(DISK) == [f"{DISK} carries nvme0n1, which is mounted on /srv."]


def test_swap(tree: Tree) -> None:
    tree.disk(tree.add(DISK, 8) / "virtio1/block", "vda", "253:0")
    tree.swap("/dev/vda partition 1 0 -2\n")
    assert tree.refusals(DISK) == [f"{DISK} carries vda, which is used as swap."]


def test_disk_that_is_not_used(tree: Tree) -> None:
    tree.disk(tree.add(DISK, 8) / "nvme/nvme0", "nvme0n1", "259:0")
    tree.mounts("30 1 259:5 / / rw - ext4 /dev/nvme5n1 rw\n")
    assert tree.refusals(DISK) == []


def test_default_route_address_and_bridge_port(tree: Tree) -> None:
    interface = tree.interface(tree.add(NIC, 7), "eth0")
    tree.link(interface / "master", tree.sysfs / "devices/virtual/net/br0")
    assert "port of a bridge" in tree.refusals(NIC)[0]
    tree.addresses["eth0"] = ["192.0.2.7"]
    assert "has the address 192.0.2.7" in tree.refusals(NIC)[0]
    tree.routes("eth0 00000000 0102A8C0 0003 0 0 0 00000000\n")
    assert "default route" in tree.refusals(NIC)[0]


def test_default_route_of_another_interface_does_not_matter(tree: Tree) -> None:
    tree.interface(tree.add(NIC, 7), "eth1")
    tree.routes("eth0 00000000 0102A8C0 0003 0 0 0 00000000\neth1 0002A8C0 00000000 1 0 0 0 00FFFFFF\n")
    (tree.host.proc / "net/ipv6_route").write_text(
        f"{'0' * 32} 00 {'0' * 32} 00 {'0' * 32} f 1 0 200200 lo\n"
    )
    assert tree.refusals(NIC) == []


def test_reset_methods(tree: Tree) -> None:
    path = tree.add(NIC, 7)
    device = PciDevice(NIC, tree.sysfs)
    assert device.reset_methods == [] and not device.has_flr
    (path / "reset_method").write_text("pm bus\n")
    assert device.reset_methods == ["pm", "bus"] and not device.has_flr
    (path / "reset_method").write_text("flr bus\n")
    assert device.has_flr


def test_host_file(tmp_path: Path) -> None:
    """The lab's, JSON."""
    path = tmp_path / "devices.json"
    path.write_text(
        json.dumps(
            {"devices": [{"role": "nvme", "address": DISK}, {"role": "e1000e", "address": NIC, "wire": "w0"}]}
        )
    )
    assert allowed_devices(path) == [HostDevice("nvme", DISK), HostDevice("e1000e", NIC, "w0")]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "is not JSON"),
        ("[]", 'a list "devices"'),
        ('{"devices": {}}', '"devices" has to be a list'),
        ('{"device": []}', "unknown keys device; known are devices, vdpa, memory_mib, cpus, taps, never"),
        ('{"memory_mib": "8G"}', "\"memory_mib\" has to be a whole number from 1 on, and is '8G'"),
        ('{"cpus": true}', '"cpus" has to be a whole number'),
        ('{"taps": "no"}', '"taps" has to be true or false'),
        ('{"vdpa": ["/dev/null"]}', '"vdpa" has to be a list like .*vhost-vdpa-0'),
        ('{"never": [{}]}', '"never" has to be a list of PCI addresses'),
        ('{"devices": [{"role": "a b", "address": "0000:01:00.0"}]}', "letters, digits and hyphens"),
        ('{"devices": [{"role": "a", "address": "0000:01:00.0", "wire": 5}]}', "the name of an interface"),
        (
            json.dumps({"devices": [{"role": "a", "address": NIC, "wire": "w0"}], "never": ["w0"]}),
            "allows w0 and lists it under never",
        ),
        ('{"devices": ["x"]}', "Device 1 .* has to be an object"),
        ('{"devices": [{"address": "0000:01:00.0"}]}', 'needs a "role"'),
        ('{"devices": [{"role": "nvme", "address": "01:00.0"}]}', "like \"0000:01:00.0\", and has '01:00.0'"),
        ('{"devices": [{"role": "nvme", "address": "0000:01:00.0", "wires": 1}]}', "unknown keys wires"),
        (
            json.dumps({"devices": [{"role": "a", "address": NIC}, {"role": "b", "address": NIC}]}),
            "more than once",
        ),
    ],
)
def test_host_file_that_is_wrong(tmp_path: Path, content: str, complaint: str) -> None:
    path = tmp_path / "devices.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=complaint):
        allowed_devices(path)


def test_host_file_in_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "host.yaml"
    path.write_text(
        f'devices:\n  - {{role: nvme, address: "{DISK}"}}\n'
        "vdpa: [/dev/vhost-vdpa-0]\nmemory_mib: 4096\ncpus: 4\ntaps: no\nnever: [eno1]\n"
    )
    monkeypatch.setenv("CPRTEST_DEVICES", str(path))
    assert hostfile.current() == hostfile.HostFile(
        (HostDevice("nvme", DISK),), (Path("/dev/vhost-vdpa-0"),), 4096, 4, False, ("eno1",)
    )
    path.write_text("devices: [")
    with pytest.raises(UsageError, match="is not YAML"):
        hostfile.current()


def test_host_file_that_is_still_empty_allows_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "vm.yaml"
    file.write_text("\n")  # scripts/doctor --hardware > hosts/vm.yaml, on the host called vm
    monkeypatch.setenv(hostfile.VARIABLE, str(file))
    assert hostfile.current() == hostfile.HostFile()


def test_host_file_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPRTEST_DEVICES", "/nonexistent.yaml")
    with pytest.raises(UsageError, match=r"The host file /nonexistent.yaml .* cannot be read"):
        hostfile.current()


def test_what_the_owner_never_allows_is_refused(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    nic = tree.add(NIC, 1)
    tree.interface(nic, "eno1")
    tree.add(DISK, 2)
    file = tree.sysfs.parent / "host.yaml"
    file.write_text(f'never: ["{DISK}", eno1]\n')
    monkeypatch.setenv("CPRTEST_DEVICES", str(file))
    assert tree.refusals(NIC) == ["The host file lists eno1 under never."]
    assert tree.refusals(DISK) == [f"The host file lists {DISK} under never."]


def test_a_host_file_is_proposed_from_what_is_free(tree: Tree, tmp_path: Path) -> None:
    nic = tree.add(NIC, 1, "igb")
    tree.interface(nic, "eno1")
    tree.addresses["eno1"] = ["192.0.2.1"]
    tree.add(DISK, 2, "nvme", kind="0x010802")
    tree.add(PORT, 3, "pcieport", kind="0x060400")
    tree.add("0000:03:00.0", None, "mlx5_core")
    text = propose(candidates(tree.sysfs, tree.host), [Path("/dev/vhost-vdpa-0")])
    file = tmp_path / "host.yaml"
    file.write_text(text)
    assert allowed_devices(file) == [HostDevice("nvme", DISK)]
    assert f'  - "{NIC}"  # {NIC} is eno1, which has the address 192.0.2.1.' in text
    assert "0000:03:00.0 is in no IOMMU group" in text
    assert "vdpa: [/dev/vhost-vdpa-0]" in text and PORT not in text


def test_an_empty_machine_has_an_empty_host_file(tree: Tree, tmp_path: Path) -> None:
    file = tmp_path / "host.yaml"
    file.write_text(propose(candidates(tree.sysfs, tree.host), []))
    assert allowed_devices(file) == []


def test_the_largest_bar_is_neither_an_empty_one_nor_the_rom(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    lines = [(0xFE200000, 0xFE2000FF), (0, 0), (0xC000000000, 0xC03FFFFFFF), (0, 0), (0, 0), (0, 0)]
    rom = (0, (8 << 30) - 1)
    text = "".join(f"{start:#018x} {end:#018x} {0x40200:#018x}\n" for start, end in [*lines, rom])
    (tree.add(NIC, 1) / "resource").write_text(text)
    assert PciDevice(NIC, tree.sysfs).largest_bar == 1 << 30
