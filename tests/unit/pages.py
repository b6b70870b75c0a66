# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading the pages of reports."""

import base64
import gzip
import json
import re
from typing import Any


def unpacked(page: str, ident: str) -> Any:
    """The data that a page carries under an id."""
    found = re.search(rf'<script type="text/plain" id="{ident}">([^<]*)<', page)
    assert found, ident
    return json.loads(gzip.decompress(base64.b64decode(found[1])))
