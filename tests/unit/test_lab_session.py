# SPDX-License-Identifier: GPL-2.0-or-later
"""The host's half of a lab's life, against a shell script at the other end of the ports."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from cprtest.lab import command, session
from cprtest.lab.session import LabError, NotStarted, Session


def begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, stdin: bool = False) -> Session:
    """A session whose "lab" is `script`; $control, $stdout and so on are descriptors of its ports."""

    def script_instead(parts: command.Parts) -> list[str]:
        names = "; ".join(f"{name}={fd}" for name, fd in parts.ports.items())
        # a shell that knows descriptors above 9
        return ["bash", "-c", f'{names}; say() {{ echo "$*" >&$control; }}; {script}']

    monkeypatch.setattr(command, "virtme_run", script_instead)
    parts = command.Parts(Path("q"), Path("i"), Path("v"), tmp_path, "tcg", 1, 1)
    return Session(parts, [], tmp_path / "log", stdin)


def finish(made: Session, boot_limit: float = 20) -> tuple[int, bytes, bytes]:
    """Its status, standard output and standard error."""
    out: list[bytes] = []
    err: list[bytes] = []
    try:
        return made.wait(out.append, err.append, boot_limit), b"".join(out), b"".join(err)
    finally:
        made.close()


@pytest.mark.parametrize("status", [0, 1, 125, 255])
def test_status_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    made = begin(tmp_path, monkeypatch, f"say stage command; say exit {status}; sleep 60")
    assert finish(made)[0] == status


def test_output_before_the_end_arrives_and_streams_stay_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "say stage command; head -c 3000000 /dev/zero >&$stdout; echo no >&$stderr; say exit 0; sleep 60"
    status, out, err = finish(begin(tmp_path, monkeypatch, script))
    assert (status, len(out), err) == (0, 3_000_000, b"no\n")


def test_death_is_not_a_status_and_names_the_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LabError, match="died in its stage 'devices'"):
        finish(begin(tmp_path, monkeypatch, "say stage mounts; say stage devices; exit 0"))
    with pytest.raises(LabError, match="died while the command was running"):
        finish(begin(tmp_path, monkeypatch, "say stage command; kill -9 $$"))


def test_hang_before_the_command_is_told_from_one_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotStarted, match=r"did not take the command .* before its init was up"):
        finish(begin(tmp_path, monkeypatch, "sleep 60"), boot_limit=0.3)
    monkeypatch.setattr(session, "ALIVE_LIMIT", 0.3)
    with pytest.raises(LabError, match="no sign of life") as seen:
        finish(begin(tmp_path, monkeypatch, "say stage command; sleep 60"))
    assert not isinstance(seen.value, NotStarted)


def test_signs_of_life_keep_it_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "ALIVE_LIMIT", 1.0)
    beat = "for i in 1 2 3 4 5 6; do sleep 0.3; say alive; done"
    assert finish(begin(tmp_path, monkeypatch, f"say stage command; {beat}; say exit 3; sleep 60"))[0] == 3


def test_first_signal_goes_to_the_command_and_second_switches_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "say stage command; echo up >&$stdout; read -r name <&$control; echo $name >&$stdout; sleep 60"
    made = begin(tmp_path, monkeypatch, script)
    seen: list[bytes] = []

    def on_output(data: bytes) -> None:
        seen.append(data)
        os.kill(os.getpid(), signal.SIGTERM)

    before = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        made.wait(on_output, lambda _: None, 20)
    made.close()
    assert seen == [b"up\n", b"TERM\n"]
    assert time.monotonic() - before < 20
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_works_outside_the_main_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = begin(tmp_path, monkeypatch, "say stage command; say exit 4; sleep 60")
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(finish(made)[0]))
    thread.start()
    thread.join(30)
    assert seen == [4]
