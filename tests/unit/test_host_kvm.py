# SPDX-License-Identifier: GPL-2.0-or-later
"""What the KVM probe concludes from a console; booting a kernel is left to functional tests."""

import subprocess
from pathlib import Path

import pytest

from cprtest.host import kvm
from cprtest.host.answers import remembered


def judge(script: str, limit: float = 5) -> str | None:
    """The verdict on what a shell script prints."""
    argv = ["sh", "-c", script]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            return kvm._judge(process, limit)
        finally:
            process.kill()


def test_kernel_that_looks_for_its_root_has_booted() -> None:
    assert (
        judge("echo '[ 1.0] Kernel panic - not syncing: VFS: Unable to mount root fs on x'; exec sleep 60")
        is None
    )


def test_emulation_failure_is_seen_at_once() -> None:
    """QEMU stays there, paused, after it has said so."""
    said = judge("echo 'KVM internal error. Suberror: 1'; echo 'emulation failure'; exec sleep 60", limit=60)
    assert said and "cannot run a stock kernel here (KVM internal error. Suberror: 1)" in said


def test_silence_proves_nothing_and_is_told_with_its_last_line() -> None:
    with pytest.raises(kvm._NotProven, match=r"within 0.2 s \(Decompressing Linux\)"):
        judge("echo Decompressing Linux; exec sleep 60", limit=0.2)


def test_qemu_that_ends_for_another_reason_proves_nothing() -> None:
    with pytest.raises(kvm._NotProven, match="could not load PC BIOS"):
        judge('echo "qemu: could not load PC BIOS"; exit 1')


def test_answers_are_kept_per_key_and_errors_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    asked: list[int] = []

    def answer() -> dict[str, int]:
        asked.append(1)
        if len(asked) == 1:
            raise kvm._NotProven("not this time")
        return {"n": len(asked)}

    with pytest.raises(kvm._NotProven):
        remembered("kvm", ["boot 1"], answer)
    assert remembered("kvm", ["boot 1"], answer) == {"n": 2}
    assert remembered("kvm", ["boot 1"], answer) == {"n": 2}
    assert remembered("kvm", ["boot 2"], answer) == {"n": 3}
