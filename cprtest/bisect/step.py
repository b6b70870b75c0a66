# SPDX-License-Identifier: GPL-2.0-or-later
"""`python -m cprtest.bisect.step SETTINGS`: one commit, for `git bisect run`."""

import sys
from pathlib import Path

from cprtest.bisect.session import ABORT, load, step

if __name__ == "__main__":
    try:
        sys.exit(step(load(Path(sys.argv[1]))))
    except KeyboardInterrupt:
        sys.exit(ABORT)
