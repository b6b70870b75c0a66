# SPDX-License-Identifier: GPL-2.0-or-later
"""The CI jobs: valid shell, commands that exist, results where GitLab looks for them, no host named."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_docs import help_of

from cprtest import paths

FILES = [paths.CHECKOUT / ".gitlab-ci.yml", paths.CHECKOUT / "ci" / "qemu-cpr.gitlab-ci.yml"]
KEYWORDS = ("include", "stages", "default", "variables", "workflow")


def jobs() -> dict[str, dict[str, Any]]:
    """The jobs of both files, with what they extend put in, as GitLab does."""
    raw = {name: job for file in FILES for name, job in yaml.safe_load(file.read_text()).items()}
    return {name: merged(job, raw) for name, job in raw.items() if name not in KEYWORDS}


def merged(job: dict[str, Any], raw: dict[str, Any]) -> dict[str, Any]:
    base = merged(raw[job["extends"]], raw) if "extends" in job else {}
    return deep(base, job)


def deep(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    both = {key: deep(base[key], over[key]) for key in base if isinstance(over.get(key), dict)}
    return {**base, **over, **both}


JOBS = [pytest.param(name, job, id=name) for name, job in jobs().items()]


@pytest.mark.parametrize(("name", "job"), JOBS)
def test_scripts_are_valid_shell(name: str, job: dict[str, Any]) -> None:
    script = "\n".join([*job.get("before_script", []), *job.get("script", [])])
    assert name == ".qemu-cpr" or job["script"]
    done = subprocess.run(["sh", "-n"], input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("job", list(jobs().values()))
def test_commands_exist_with_their_options(job: dict[str, Any]) -> None:
    for line in job.get("script", []):
        for script, rest in re.findall(r"scripts/([a-z-]+)\"?([^;]*)", line):
            path = paths.CHECKOUT / "scripts" / script
            assert path.exists(), line
            text = help_of(script)
            assert all(option in text for option in re.findall(r"(?<=\s)--[a-z-]+", rest)), line


@pytest.mark.parametrize(("name", "job"), JOBS)
def test_results_are_kept_whatever_happens(name: str, job: dict[str, Any]) -> None:
    artifacts = job["artifacts"]
    assert artifacts["when"] == "always", name
    assert artifacts["paths"] == ["results/"]
    if report := artifacts.get("reports", {}).get("junit"):
        assert report.removesuffix("/results.xml") in " ".join(job["script"])


def test_cache_is_below_the_project() -> None:
    job = jobs()["check"]
    assert job["variables"]["XDG_CACHE_HOME"] == "$CI_PROJECT_DIR/.cache"
    assert job["cache"]["paths"] == [".cache/qemu-cpr"]


@pytest.mark.parametrize(
    "path", [*FILES, paths.CHECKOUT / "ci" / "Containerfile"], ids=lambda path: path.name
)
def test_no_host_and_no_secret_is_named(path: Path) -> None:
    text = path.read_text()
    assert "://" not in text
    assert not re.search(r"(?i)token|password|secret\b(?!,)", re.sub(r"#.*", "", text))


def test_machines_of_the_report_are_those_of_the_hardware_jobs() -> None:
    named = {host for entry in jobs()["hardware"]["parallel"]["matrix"] for host in entry["HOST"]}
    example = re.search(r'QEMU_CPR_HOSTS="([^"]*)"', FILES[0].read_text())
    assert example
    assert set(example[1].split()) == named


def test_container_copies_only_what_is_there() -> None:
    text = (paths.CHECKOUT / "ci" / "Containerfile").read_text()
    for source in re.findall(r"^COPY (?!--from)(\S+)", text, re.MULTILINE):
        assert (paths.CHECKOUT / source).exists(), source
