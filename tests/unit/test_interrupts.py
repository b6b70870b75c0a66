# SPDX-License-Identifier: GPL-2.0-or-later
import pytest

from cprtest.host.interrupts import raised

# Of a host with two CPUs; the last two as kernels print them that count all CPUs in one.
LINES = {
    "  24:         17          3   PCI-MSIX-0000:00:03.0    1-edge      virtio0-input.0": 20,
    " 129:          0          0   VFIO-MSI 5-edge      vfio-msix[0](0000:06:00.0)": 0,
    " NMI:          1          2   Non-maskable interrupts": 3,
    " ERR:          4": 4,
    " MIS:          0": 0,
}


@pytest.mark.parametrize(("line", "count"), LINES.items())
def test_all_cpus_are_counted_and_nothing_else(line: str, count: int) -> None:
    assert raised(line) == count
