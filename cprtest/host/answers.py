# SPDX-License-Identifier: GPL-2.0-or-later
"""Answers that are slow to find out, kept in the cache under everything they depend on."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from cprtest.paths import cache_dir
from cprtest.provision.files import digest, read_record, write_record


def remembered(
    kind: str, depends_on: Sequence[object], find_out: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """The answer to `kind` for `depends_on`, from CACHE/answers, or from `find_out` when it is not there yet.

    What `find_out` raises is not kept.
    """
    path = cache_dir() / "answers" / f"{kind}-{digest(repr(part) for part in depends_on)}.json"
    known = read_record(path)
    if known is not None:
        return known
    answer = find_out()
    with contextlib.suppress(OSError):  # a cache that cannot be written only costs time
        write_record(path, answer)
    return answer
