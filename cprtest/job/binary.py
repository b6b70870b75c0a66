# SPDX-License-Identifier: GPL-2.0-or-later
"""Is this file a QEMU we can test? Asked before anything slow. Standard library only."""

import os
import re
import subprocess
from pathlib import Path

from cprtest.errors import UsageError

OLDEST = (10, 0)
"""The first QEMU with cpr-transfer (docs/devel/migration/CPR.rst in QEMU's source)."""

_ANSWER_LIMIT = 10.0


def checked(option: str, name: str) -> tuple[Path, str]:
    """The absolute path of the QEMU that the user gave as `option`, and its version.

    Raises UsageError, one sentence, when there is no such file, it is not QEMU, or it is too old.
    """
    path = Path(name).expanduser().absolute()
    if not path.exists():
        raise UsageError(f"{option} {name}: there is no such file.")
    if path.is_dir():
        raise UsageError(f"{option} {name}: this is a directory; give the qemu-system-x86_64 in it.")
    if not os.access(path, os.X_OK):
        raise UsageError(f"{option} {name}: this file is not executable.")
    version = re.search(r"QEMU emulator version (\d+)\.(\d+)(?:\.(\d+))?", _answer(option, name, path))
    if version is None:
        raise UsageError(f"{option} {name}: this is not a QEMU system emulator, judging by its --version.")
    numbers = tuple(int(part or 0) for part in version.groups())
    text = ".".join(map(str, numbers))
    if numbers[:2] < OLDEST:
        raise UsageError(
            f"{option} {name}: this is QEMU {text}, and cpr-transfer needs "
            f"{'.'.join(map(str, OLDEST))} or later."
        )
    return path, text


def _answer(option: str, name: str, path: Path) -> str:
    try:
        answer = subprocess.run(
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_ANSWER_LIMIT,
            check=False,
        )
    except OSError as error:
        raise UsageError(f"{option} {name}: cannot be executed ({error.strerror}).") from None
    except subprocess.TimeoutExpired:
        raise UsageError(f"{option} {name}: does not answer --version within {_ANSWER_LIMIT:g} s.") from None
    if answer.returncode != 0 and "shared libraries" in answer.stderr:
        raise UsageError(f"{option} {name}: cannot start ({answer.stderr.strip()}).")
    return answer.stdout
