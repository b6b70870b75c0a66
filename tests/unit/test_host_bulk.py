# SPDX-License-Identifier: GPL-2.0-or-later
"""The host's side of vfio-bulk, on files in place of sysfs."""

from pathlib import Path

import pytest

from cprtest.errors import CprError
from cprtest.host import bulk
from cprtest.host.bulk import Arc, Bulk
from cprtest.host.pci import PciDevice


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bulk:
    monkeypatch.setattr(bulk, "PciDevice", lambda address: PciDevice(address, tmp_path))
    directory = tmp_path / "bus/pci/devices/0000:01:00.0/bulk"
    directory.mkdir(parents=True)
    (directory / "fingerprint").write_text("0123abcd\n")
    (directory / "arcs").write_text("17 4711 RUNNING STOP 0\n18 4711 STOP STOP_COPY 5\n")
    return Bulk("0000:01:00.0")


def test_arcs_are_read(device: Bulk) -> None:
    assert device.arcs() == [
        Arc(17, 4711, "RUNNING", "STOP", 0),
        Arc(18, 4711, "STOP", "STOP_COPY", 5),
    ]


def test_sizes_are_in_mebibytes(device: Bulk, tmp_path: Path) -> None:
    device.resize(64)
    device.slow_down(rate_mib=100, latency_us=7)
    assert device.fill(3) == "0123abcd"
    directory = tmp_path / "bus/pci/devices/0000:01:00.0/bulk"
    written = {name: (directory / name).read_text() for name in ("size", "rate", "latency", "seed")}
    assert written == {"size": "67108864\n", "rate": "104857600\n", "latency": "7\n", "seed": "3\n"}


def test_what_the_driver_refuses_is_told_in_a_sentence(device: Bulk, tmp_path: Path) -> None:
    (tmp_path / "bus/pci/devices/0000:01:00.0/bulk/fault").mkdir()
    with pytest.raises(CprError, match="does not take melt:STOP as fault"):
        device.plant("melt:STOP")
