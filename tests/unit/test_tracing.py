# SPDX-License-Identifier: GPL-2.0-or-later
"""Instances of the kernel's tracer: where they may be made, and that none is left. Runs in the lab."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cprtest.errors import CprError
from cprtest.host import tracing
from cprtest.host.runs import Run, clean_leftovers

needs_tracer = pytest.mark.skipif(tracing.unusable() is not None, reason=tracing.unusable() or "")

PROBE = "p:{group}/probed security_file_ioctl cmd=cmd:u32"
NOWHERE = "p:{group}/nowhere no_such_function_anywhere"
KILLED = f"""
import os, signal
from cprtest.host.runs import Run
from cprtest.host.tracing import Instance
instance = Instance(Run.start(), [{PROBE!r}])
instance.switch_on({{"probed": ""}})
print(instance.name, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def there(name: str) -> tuple[bool, bool]:
    """Whether the instance is there, and a probe in its group."""
    probes = (tracing.ROOT / "dynamic_events").read_text()
    return (tracing.ROOT / "instances" / name).exists(), f"{name}/" in probes


def test_no_tracer_without_its_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tracing, "ROOT", tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert "dynamic_events" in (tracing.unusable() or "")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "root" in (tracing.unusable() or "")


@needs_tracer
def test_instance_is_gone_when_closed() -> None:
    with Run.start() as run:
        instance = tracing.Instance(run, [PROBE], [NOWHERE])
        instance.switch_on({"probed": "", "nowhere": ""})
        assert there(instance.name) == (True, True)
        instance.close()
        assert there(instance.name) == (False, False)
        instance.close()


@needs_tracer
def test_refused_probe_leaves_nothing() -> None:
    before = sorted((tracing.ROOT / "instances").iterdir())
    with Run.start() as run, pytest.raises(CprError, match="refused"):
        tracing.Instance(run, [PROBE, NOWHERE])
    assert sorted((tracing.ROOT / "instances").iterdir()) == before


@needs_tracer
def test_killed_run_leaves_an_instance_that_the_next_removes() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "CPRTEST_RUN"}
    done = subprocess.run(
        [sys.executable, "-c", KILLED], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    name = done.stdout.strip()
    assert there(name) == (True, True)
    said = "\n".join(clean_leftovers())
    assert f"Removed tracer {name}" in said
    assert there(name) == (False, False)
