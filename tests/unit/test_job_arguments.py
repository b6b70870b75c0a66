# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line of scripts/run: every mistake is one sentence, exit status 2, and costs no time."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from monitors import answers, monitor

from cprtest import paths
from cprtest.errors import UsageError
from cprtest.job import arguments, listing, shares, suites
from cprtest.job.lane import Job
from cprtest.report.model import Result


@pytest.fixture
def qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return monitor(tmp_path / "qemu", answers(10, 2, ["normal", "cpr-transfer"]))


def test_defaults() -> None:
    asked = arguments.parse([])
    assert (asked.suite, asked.lane, asked.qemu, asked.results, asked.avocado) == (
        "smoke",
        "auto",
        None,
        None,
        (),
    )


def test_qemu_becomes_an_avocado_parameter(qemu: Path) -> None:
    asked = arguments.parse(["full", "--qemu", str(qemu), "--lane", "here", "--", "--failfast", "-z"])
    assert asked.qemu is not None
    assert asked.qemu.version == "10.2.0"
    assert asked.parameters() == {"qemu_bin": str(qemu)}
    assert asked.avocado == ("--failfast", "-z")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("/nowhere/qemu", "No such file"),
        ("/tmp", "is a directory"),
        ("/etc/passwd", "not executable"),
        ("/bin/true", "does not behave like QEMU"),
    ],
)
def test_what_is_not_qemu_is_refused(name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as error:
        arguments.parse(["--qemu", name])
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_qemu_without_cpr_transfer_is_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    old = monitor(tmp_path / "old", answers(9, 2, ["normal"]))
    with pytest.raises(UsageError, match=r"--target-qemu .* is QEMU 9\.2\.0; cpr-transfer came with 10\.0"):
        arguments.parse(["--target-qemu", str(old)])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["moon"], "suites are smoke, full, soak, explore, sweep, downtime, matrix"),
        (["--lane", "moon"], "here"),
        (["--", "-t", "smoke"], "the suite says which tests run"),
        (["--", "--xunit=/tmp/x"], "each job would write that file"),
        (["--results", "/etc/passwd"], "is a file"),
        (["--results", "/etc"], "not empty"),
        (["--qemu"], "expected one argument"),
        (["--frobnicate"], "Unrecognized"),
    ],
)
def test_other_mistakes_are_explained(words: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        arguments.parse(words)


def test_a_mistake_is_one_sentence_and_status_2_before_set_up() -> None:
    start = time.monotonic()
    ended = subprocess.run(
        [paths.CHECKOUT / "scripts" / "run", "--qemu", "/bin/true"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert len(ended.stderr.strip().splitlines()) == 1
    assert ended.stdout == ""
    assert time.monotonic() - start < 2.0


def test_a_host_file_that_is_not_there_is_told_before_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPRTEST_DEVICES", "/nowhere/connectx.yaml")
    with pytest.raises(
        UsageError, match=r"/nowhere/connectx\.yaml .* cannot be read.*scripts/doctor --hardware"
    ):
        arguments.parse(["--lane", "here"])
    assert arguments.parse(["--lane", "lab"])


@pytest.mark.parametrize(
    ("words", "commands"),
    [
        ([], [["setup"]]),
        (["full"], [["setup", "--full"]]),
        (["full", "--list"], [["setup"]]),
        (["matrix", "--qemu", "stock"], [["setup"], ["build-qemu", "mutants"], ["build-qemu", "stock"]]),
    ],
)
def test_a_suite_sets_up_what_its_tests_need(words: list[str], commands: list[list[str]]) -> None:
    assert arguments.parse(words).set_up() == commands


def test_the_front_needs_only_the_standard_library() -> None:
    code = "import sys; import cprtest.job.__main__; print([m for m in sys.modules if 'site-packages' in (getattr(sys.modules[m], '__file__', None) or '')])"  # noqa: E501
    ended = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True, cwd=paths.CHECKOUT
    )
    assert ended.stdout.strip() == "[]"


def test_no_smoke_suite_without_tests() -> None:
    assert suites.members("smoke")


def test_parameters_are_in_the_variants_where_p_is_refused() -> None:
    parameters = {"qemu_bin": "/q"}
    words = Job("here", ["tests"], ("smoke",), Path("/r"), parameters, variants=Path("/v")).command()
    assert "-p" not in words and words[words.index("--json-variants-load") + 1] == "/v"


@pytest.mark.parametrize("words", [["tests/functional/vfio.py:Vfio.test_nvme"], ["full", "--", "vfio.py"]])
def test_tests_by_name_are_avocados(words: list[str]) -> None:
    with pytest.raises(UsageError, match="scripts/run runs suites"):
        arguments.parse(words)


@pytest.mark.parametrize("words", [["-m", "a.yaml"], ["--cit-parameter-file=a.cit"]])
def test_variants_are_not_given_behind_our_back(words: list[str]) -> None:
    with pytest.raises(UsageError, match="given as --variants FILE"):
        arguments.parse(["matrix", "--", *words])


def test_a_device_that_no_lab_has() -> None:
    assert arguments.parse(["--lab-devices", "nvme,e1000e"]).lab_devices == ("nvme", "e1000e")
    with pytest.raises(UsageError, match="The lab has no device gpu"):
        arguments.parse(["--lab-devices", "nvme,gpu"])


def test_the_matrix_needs_another_build_for_its_other_targets() -> None:
    assert arguments.parse(["matrix", "--qemu", "stock"]).flavours() == {"stock", "mutants"}
    assert arguments.parse(["smoke"]).flavours() == set()


def test_shares_end_together(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    paths.cache_dir().mkdir(exist_ok=True)
    seconds = {"a": 10.0, "b": 10.0, "long": 100.0, "c": 30.0}
    shares.remember("lab", (Result(name, "PASS", "lab", duration=took) for name, took in seconds.items()))
    assert shares.shared(["a", "b", "c", "long"], 2, "lab") == [["long"], ["c", "b", "a"]]
    assert shares.shared(["a", "new"], 3, "lab") == [["new"], ["a"]]
    assert shares.shared(["a", "b", "c", "long"], 2, "here") == [["a", "c"], ["long", "b"]]


def test_the_lab_runs_the_same_command() -> None:
    here = Job("here", ["a.py:^C.m$"], (), Path("/r"), {"qemu_bin": "/q"}).command()
    lab = Job("lab", ["a.py:^C.m$"], (), Path("/r"), {"qemu_bin": "/q"}).command()
    assert lab == [str(paths.CHECKOUT / "scripts" / "lab"), "run", "--writable", "/r", "--", *here]
    assert "qemu_bin=/q" in here


def test_a_list_names_promises_needs_and_ids() -> None:
    entries = {entry.name: entry for entry in listing.entries(suites.members("full"))}
    entry = entries["tests/functional/ordering.py:Ordering.test_vhost_is_released_before_handover"]
    assert entry.promise.startswith("The source gives its vhost device up")
    assert entry.needs == ("qemu:cpr-transfer", "kvm", "vhost-net", "tun", "netns")
    assert entry.corpus == ("C-04", "C-10")
    assert entry.defects == ("D-003",)
    data = json.loads(listing.as_json("full", [entry]))
    assert set(data) == {"suite", "tags", "suites", "tests"}
    assert set(data["tests"][0]) == {"name", "promise", "needs", "corpus", "defects"}


def test_every_test_makes_a_promise() -> None:
    for entry in listing.entries([name for name, _ in suites.everything()]):
        assert entry.promise.endswith("."), entry.name


def test_time_and_seed_of_an_exploration(tmp_path: Path) -> None:
    asked = arguments.parse(["soak", "--hours", "2", "--seed", "7"])
    assert asked.parameters() == {"hours": "2.0", "seed": "7"}
    assert asked.hours == 3.0
    assert arguments.parse(["full"]).hours is None
    job = Job("here", [], (), tmp_path / "here", asked.parameters(), hours=asked.hours)
    config = Path(job.command()[job.command().index("--config") + 1])
    assert "running = 10800" in config.read_text()
    assert "spawner = cpr" in config.read_text()
    for wrong, said in (
        (["full", "--seed", "7"], "soak and explore"),
        (["soak", "--hours", "-1"], "-1 is not"),
    ):
        with pytest.raises(UsageError, match=said):
            arguments.parse(wrong)
