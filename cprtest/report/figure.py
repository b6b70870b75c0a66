# SPDX-License-Identifier: GPL-2.0-or-later
"""Drawings as parts of the report's page."""

import base64
import xml.etree.ElementTree as ET
from pathlib import Path

from markupsafe import Markup

_SHAPES = ("svg", "style", "defs", "pattern", "marker", "g", "title", "rect", "path", "circle", "text")
_TYPES = {".svg": "image/svg+xml", ".png": "image/png"}


def figure(drawing: str) -> Markup:
    """An SVG as part of the page, so that it can be zoomed and has tooltips.

    One that is not as cprtest.timeline.draw makes it is shown as an image, which can do nothing to the page.
    """
    if _harmless(drawing):
        return Markup(drawing)
    return _image("image/svg+xml", drawing.encode(), "A drawing that is not ours")


def picture(path: Path) -> Markup:
    """A picture file (SVG or PNG) as an image that is part of the page. Raises OSError."""
    return _image(_TYPES[path.suffix], path.read_bytes(), path.stem.replace("-", " "))


def pictures(directory: Path) -> list[Path]:
    """The picture files in a directory, by name, of two with one name the SVG; none if it is not there."""
    found = {path.stem: path for kind in (".png", ".svg") for path in directory.glob(f"*{kind}")}
    return [found[stem] for stem in sorted(found)]


def _image(kind: str, data: bytes, alternative: str) -> Markup:
    text = base64.b64encode(data).decode()
    return Markup('<img src="data:{};base64,{}" alt="{}">').format(kind, text, alternative)


def _harmless(drawing: str) -> bool:
    """Whether `drawing` is an SVG of shapes and text only."""
    try:
        root = ET.fromstring(drawing)
    except ET.ParseError:
        return False
    space = "{http://www.w3.org/2000/svg}"
    known = {space + name for name in _SHAPES}
    styles = "".join(part.text or "" for part in root.iter(f"{space}style"))
    return (
        root.tag == f"{space}svg"
        and all(part.tag in known and not any(map(_acts, part.attrib.items())) for part in root.iter())
        and all(rule.strip().startswith(".tl ") for rule in styles.split("}")[:-1])
        and "://" not in styles
    )


def _acts(attribute: tuple[str, str]) -> bool:
    """Whether an attribute of a shape runs a script or fetches something."""
    name, value = attribute
    return name.startswith("on") or "href" in name or "://" in value
