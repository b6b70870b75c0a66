# SPDX-License-Identifier: GPL-2.0-or-later
"""`python -m cprtest.provision setup|build-qemu`, called by the scripts of those names."""

import sys

from cprtest.provision.setup import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
