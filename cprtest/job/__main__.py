# SPDX-License-Identifier: GPL-2.0-or-later
"""`scripts/run` before the venv is there: judge the command line, set up, go on with the venv's Python.

Standard library only. A wrong command line costs no time this way.
"""

import os
import subprocess
import sys
from pathlib import Path

from cprtest.errors import exit_status
from cprtest.job import arguments
from cprtest.paths import CHECKOUT, VENV


def main(words: list[str]) -> int:
    """Returns the exit status only if the run does not come about."""
    return exit_status(lambda: _set_up_and_go_on(words), "Interrupted.")


def _set_up_and_go_on(words: list[str]) -> int:
    asked = arguments.parse(words)
    python = str(VENV / "bin" / "python")
    for script, *words_of_it in asked.set_up():
        if script == "setup" and asked.listing and Path(python).exists():
            continue  # a list needs the venv only
        # its progress is on standard error; the path that build-qemu prints is of no use here
        out = subprocess.DEVNULL if script == "build-qemu" else None
        step = [str(CHECKOUT / "scripts" / script), *words_of_it]
        done = subprocess.run(step, stdin=subprocess.DEVNULL, stdout=out, check=False)
        if done.returncode != 0:
            print("Set-up did not work (see above), so no test was run.", file=sys.stderr)
            return 1
    os.environ["PYTHONWARNINGS"] = "ignore:pkg_resources is deprecated:UserWarning"
    sys.stdout.flush()
    return os.execv(python, [python, "-m", "cprtest.job.run", *words])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
