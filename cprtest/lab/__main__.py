# SPDX-License-Identifier: GPL-2.0-or-later
"""`python -m cprtest.lab run|shell|info`, called by scripts/lab."""

import sys

from cprtest.lab.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
