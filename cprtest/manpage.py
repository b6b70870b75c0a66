# SPDX-License-Identifier: GPL-2.0-or-later
"""--help of our commands in the style of man pages. Standard library only: some of them run before set-up."""

import argparse
import textwrap

Formatter = argparse.RawDescriptionHelpFormatter
"""Leaves the text as it is written; for ArgumentParser's formatter_class."""


def description(text: str) -> str:
    """What the command does: paragraphs of any width, filled; those that begin with blanks are left alone."""
    paragraphs = textwrap.dedent(text).strip().split("\n\n")
    return "\n\n".join(p if p.startswith(" ") else textwrap.fill(p, 98) for p in paragraphs)


def sections(**texts: str) -> str:
    """The sections after the options: sections(files=..., exit_status=..., examples=...), in that order."""
    parts = []
    for name, text in texts.items():
        body = textwrap.indent(textwrap.dedent(text).strip("\n"), "  ")
        parts.append(f"{name.replace('_', ' ')}:\n{body}")
    return "\n\n".join(parts)
