# SPDX-License-Identifier: GPL-2.0-or-later
"""The matrix: kept tables against the files they were made from, variants, and what they ask of a host."""

import json
from pathlib import Path
from typing import Any

import pytest
from avocado.core.parameters import AvocadoParams
from avocado.core.varianter import Varianter

from cprtest.errors import UsageError
from cprtest.job import reduction, variants
from cprtest.machine.boards import BOARDS
from cprtest.machine.devices import Disk
from cprtest.machine.nics import Macvtap
from cprtest.paths import CHECKOUT
from cprtest.variant import AXES, Variant

VARS = CHECKOUT / "tests" / "vars"
STRENGTH = {"matrix": 3}
"""What is promised of the kept tables: every pair, or every triple."""

SMALL = """PARAMETERS
accel [kvm, tcg]
nic [none, tap, vhost]
vcpus [1, 2]
CONSTRAINTS
accel != tcg || nic != vhost
nic != vhost || vcpus != 2
"""


def space(tmp_path: Path, text: str = SMALL) -> reduction.Space:
    file = tmp_path / "small.cit"
    file.write_text(text)
    return reduction.read(file)


def params(values: dict[str, Any]) -> Variant:
    return Variant.read(values.get)


@pytest.mark.parametrize("file", sorted(VARS.glob("*.csv")), ids=lambda file: str(file.stem))
def test_kept_table_has_every_possible_combination_and_no_other(file: Path) -> None:
    axes, rows = reduction.table(file)
    found = reduction.read(file.with_suffix(".cit"))
    assert axes == found.names
    assert rows == sorted(set(rows))
    assert reduction.Reduction(found, STRENGTH[file.stem], tuple(rows)).missing() == []


def test_the_matrix_has_the_variants_that_were_asked_for() -> None:
    assert len(reduction.table(VARS / "matrix.csv")[1]) >= 200


@pytest.mark.parametrize("file", sorted(VARS.glob("*")), ids=lambda file: str(file.name))
def test_every_value_is_one_of_its_axis(file: Path) -> None:
    if file.suffix == ".cit":
        for axis, values in reduction.read(file).axes.items():
            for value in values:
                params({axis: value})
        return
    for variant in variants.read(file):
        leaves = Varianter(state=[dict(variant.raw)])
        for state in leaves.itertests():
            get = AvocadoParams(state["variant"], state["paths"]).get
            assert set().union(*(leaf.environment for leaf in state["variant"])) <= set(AXES)
            Variant.read(get)


def test_reduction_is_the_same_each_time_and_misses_nothing(tmp_path: Path) -> None:
    found = reduction.reduced(space(tmp_path), 2)
    assert found.missing() == []
    assert found == reduction.reduced(space(tmp_path), 2)
    assert "3 axes, 12 combinations; all 14 possible combinations of 2 values" in found.describe()


def test_reduction_tells_what_is_missing_and_what_is_not_allowed(tmp_path: Path) -> None:
    rows = (("tcg", "vhost", "1"), ("kvm", "tap", "1"))
    missing = reduction.Reduction(space(tmp_path), 2, rows).missing()
    assert missing[0] == "not allowed: tcg vhost 1"
    assert "in no row: accel kvm, nic none" in missing
    assert not any("nic vhost, vcpus 2" in sentence for sentence in missing)


def test_combination_that_leads_nowhere_is_not_possible(tmp_path: Path) -> None:
    only = space(tmp_path, SMALL + "accel != kvm || vcpus != 1\n")
    assert not only.possible({1: 2})  # vhost wants kvm and one vCPU, and kvm wants two


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("none.csv", "there is no such file; those of the project are in tests/vars"),
        ("odd.txt", "has to end in one of .csv, .cit, .yaml, .json"),
        ("empty.csv", "there is no variant in it"),
        ("broken.cit", "no parameter file of Avocado's CIT plugin: Invalid file"),
    ],
)
def test_variants_that_cannot_be_read(tmp_path: Path, name: str, complaint: str) -> None:
    file = tmp_path / name
    if not name.startswith("none"):
        file.write_text("machine\n")
    with pytest.raises(UsageError, match=complaint):
        variants.read(file)


def test_yaml_is_read_by_avocado_and_parameters_reach_every_variant(tmp_path: Path) -> None:
    file = tmp_path / "two.yaml"
    file.write_text("nic: !mux\n  a: {nic: tap}\n  b: {nic: vhost}\n")
    found = variants.read(file)
    written = tmp_path / "variants.json"
    variants.write(written, found, {"qemu_bin": "stock"})
    got = []
    for state in Varianter(state=json.loads(written.read_text())).itertests():
        given = AvocadoParams(state["variant"], state["paths"])
        got.append((given.get("nic"), given.get("qemu_bin")))
    assert got == [("tap", "stock"), ("vhost", "stock")]


def test_only_the_variants_that_tests_ask_for() -> None:
    known = variants.from_rows(["nic", "vcpus"], [("tap", "1"), ("tap", "2"), ("vhost", "1")])
    assert variants.names(["t"], known) == ["t;tap-1", "t;tap-2", "t;vhost-1"]
    assert [v.name for v in variants.of(["t;vhost-1", "t;tap-1"], known)] == ["vhost-1", "tap-1"]
    assert variants.names(["t"], []) == ["t"]


def test_a_variant_asks_for_all_it_needs() -> None:
    wanted = params(
        {
            **{"accel": "kvm", "nic": "vhost-2q", "vcpus": 2, "memory": "hugepages", "vsock": "vhost"},
            **{"vfio": "nvme+0000:c1:00.2", "container": "iommufd", "mode": "cpr-exec"},
        }
    ).needs()
    assert set(wanted) == {
        *("qemu:cpr-exec", "memory:512", "cpus:2", "tun", "netns", "vhost-net", "kvm", "hugepages:256"),
        *("vhost-vsock", "root", "qemu:vfio-cpr", "vfio:nvme", "vfio:0000:c1:00.2", "iommufd"),
    }
    assert set(params({"accel": "tcg"}).needs()) == {"qemu:cpr-transfer", "memory:512", "cpus:1"}


def test_a_variant_is_a_guest() -> None:
    given: dict[str, Any] = {}

    def disk(**kind: str) -> Disk:
        given.update(kind)
        return Disk(Path("/image"), kind["format"], bus=kind["bus"], aio=kind["aio"])

    guest = params({"nic": "macvtap", "disk": "virtio-scsi", "image": "qcow2", "vfio": "a+b"}).guest(disk)
    assert given == {"format": "qcow2", "bus": "virtio-scsi", "aio": "threads"}
    assert guest["net"] == (Macvtap(vhost=False),)
    assert guest["passthrough"] == ["a", "b"] and guest["vsock"] is False
    assert guest["machine"] in BOARDS
    plain = params({}).guest(disk)
    assert plain["disk"] is None and plain["net"] == () and plain["passthrough"] == []


@pytest.mark.parametrize(
    ("axis", "value"), [("nic", "tap0"), ("vcpus", "0"), ("vfio", "nvme+"), ("machine", "isapc")]
)
def test_a_value_that_there_is_not(axis: str, value: str) -> None:
    with pytest.raises(UsageError, match=f"Parameter {axis}: '{value.replace('+', '.')}' is none of its"):
        params({axis: value})
