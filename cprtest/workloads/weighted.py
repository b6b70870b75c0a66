# SPDX-License-Identifier: GPL-2.0-or-later
"""The weighted sum, by which two sides agree on what a block holds: cheap for a guest under TCG.

The same in the guest: assets/guest/weighted.h.
"""

import operator
from array import array


def weighted(data: bytes) -> int:
    """Sum of all 64-bit words, modulo 2^64, word N taken 2 N + 1 times. `data` is whole words."""
    words = array("Q", data)
    total: int = sum(map(operator.mul, words, range(1, 2 * len(words), 2)))
    return total % (1 << 64)
