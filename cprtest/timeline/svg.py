# SPDX-License-Identifier: GPL-2.0-or-later
"""Pieces of SVG. Plain, without scripts: it is embedded in the report, mailed, printed.

Everything has a shape or a pattern besides its colour, for paper and for those who do not see colours. Class
names begin with tl, as the text may stand in a page that has styles of its own.
"""

from xml.sax.saxutils import escape

_STYLE = """
.tl text{font:12px 'DejaVu Sans',Verdana,sans-serif;fill:#1b1b1b}
.tl .tl-title{font-size:16px;font-weight:bold}.tl .tl-row{font-weight:bold}.tl .tl-small{font-size:10.5px}
.tl .tl-bad{fill:#b00020;font-weight:bold}.tl .tl-white{fill:#fff}.tl .tl-soft{fill:#555}
.tl .tl-runs{fill:#1e6b30;stroke:#1e6b30}.tl .tl-stopped{fill:#fff;stroke:#555}
.tl .tl-waits{fill:none;stroke:#777;stroke-dasharray:3 3}
.tl .tl-source{fill:url(#tl-hatch);stroke:#1f4e79}.tl .tl-target{fill:#e08a00;stroke:#7a4b00}
.tl .tl-both{fill:none;stroke:#b00020;stroke-width:2.5}.tl .tl-wrong{fill:#b00020;fill-opacity:.12}
.tl .tl-line{stroke:#8a8a8a;fill:none}.tl .tl-faint{stroke:#d0d0d0;fill:none}
.tl .tl-event{stroke:#333;stroke-width:1.2}.tl .tl-lost{fill:#fff;stroke:#333;stroke-width:1.2}
.tl .tl-hit{stroke:#000;stroke-opacity:0;stroke-width:7}
.tl .tl-arrow{stroke:#1b1b1b;stroke-width:1.6;fill:none;marker-end:url(#tl-head)}
.tl .tl-span{stroke:#1b1b1b;stroke-width:1.4;fill:none;marker-start:url(#tl-head);marker-end:url(#tl-head)}
"""
_DEFS = (
    '<defs><pattern id="tl-hatch" width="6" height="6" patternUnits="userSpaceOnUse"'
    ' patternTransform="rotate(45)"><rect width="6" height="6" fill="#cfe0f3"/>'
    '<rect width="2.2" height="6" fill="#1f4e79"/></pattern>'
    '<marker id="tl-head" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto-start-reverse">'
    '<path d="M0 .5L8 4L0 7.5z" fill="#1b1b1b"/></marker></defs>'
)


def picture(width: float, height: float, label: str, body: list[str]) -> str:
    """A whole SVG file; `label` for those who cannot see it."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="tl" viewBox="0 0 {width:.0f} {height:.0f}"'
        f' role="img" aria-label="{quoted(label)}"><style>{_STYLE}</style>{_DEFS}'
        '<rect width="100%" height="100%" fill="#fff"/>\n' + "\n".join(body) + "\n</svg>\n"
    )


def quoted(words: str) -> str:
    """`words` as an attribute's value."""
    return escape(words, {'"': "&quot;"})


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    """A line of text; `kind`: class names without their prefix."""
    return f'<text x="{x:.1f}" y="{y:.1f}"{_class(kind)} text-anchor="{anchor}">{escape(words)}</text>'


def box(x: float, y: float, width: float, height: float, kind: str, *, tip: str = "", more: str = "") -> str:
    """A rectangle; `tip` shows when the pointer is on it; `more` attributes."""
    size = f'x="{x:.1f}" y="{y:.1f}" width="{max(width, 1):.1f}" height="{height:.1f}"'
    return f"<rect {size}{_class(kind)} {more}>{_tip(tip)}</rect>"


def path(d: str, kind: str, tip: str = "") -> str:
    """A path with the commands `d`."""
    return f'<path d="{d}"{_class(kind)}>{_tip(tip)}</path>'


def group(tip: str, *parts: str) -> str:
    """Parts that share a tooltip."""
    return f"<g>{_tip(tip)}{''.join(parts)}</g>"


def bar(x: float, y: float, width: float, height: float, kind: str, *, label: str = "", tip: str = "") -> str:
    """A rectangle with its label inside, if there is room for it."""
    drawn = box(x, y, width, height, kind, tip=tip)
    if not label or width < room(label):
        return drawn
    colour = {"runs": "white small", "both": "bad small"}.get(kind, "small")
    middle = y + height / 2 + 4
    ground = ""
    if kind in ("source", "both"):  # letters are hard to read on a hatched ground
        ground = box(
            x + width / 2 - room(label) / 2 + 3, y + 2, room(label) - 6, height - 4, "", more='fill="#fff"'
        )
    return drawn + ground + text(x + width / 2, middle, label, colour, "middle")


def room(label: str) -> float:
    """How much width a small label takes."""
    return 6.3 * len(label) + 8


def length(ns: int) -> str:
    """A length of time for people."""
    if ns >= 10**8:
        return f"{ns / 1e6:.0f} ms"
    if ns >= 10**5:
        return f"{ns / 1e6:.1f} ms"
    return f"{ns / 1e3:.0f} µs" if ns > 1 else "a moment"


def _class(kind: str) -> str:
    return f' class="{" ".join(f"tl-{word}" for word in kind.split())}"' if kind else ""


def _tip(words: str) -> str:
    return f"<title>{escape(words)}</title>" if words else ""
