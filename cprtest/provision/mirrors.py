# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the host gets Debian from, and the same mirrors' sources for another suite."""

import re
import subprocess
from dataclasses import dataclass

from cprtest.errors import CprError

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


@dataclass(frozen=True)
class Mirrors:
    """Where the host gets Debian from: main archive, security archive if configured, and the keyring."""

    main: str
    security: str | None
    keyring: str = KEYRING


def parse_mirrors(indextargets: str) -> Mirrors:
    """Derive the mirrors from what `apt-get indextargets` prints.

    Raises CprError if no Debian main archive is among them.
    """
    main = security = None
    keyring = KEYRING
    for stanza in re.split(r"\n\s*\n", indextargets):
        fields = dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line)
        release, uri = fields.get("Release", ""), fields.get("Repo-URI", "")
        if not uri or fields.get("Component") != "main" or fields.get("Origin", "Debian") != "Debian":
            continue
        if release.endswith(("-security", "/updates")):
            security = security or uri
        elif "-backports" not in release:
            main = main or uri
            keyring = fields.get("Signed-By", keyring)
    if main is None:
        raise CprError(
            "apt on this host knows no Debian archive: run `apt-get update` as root, then try again."
        )
    # a Signed-By of key text or fingerprints cannot be passed on as a file
    return Mirrors(main, security, keyring if keyring.startswith("/") and "," not in keyring else KEYRING)


def sources(mirrors: Mirrors, suite: str) -> str:
    """Write the private root's sources in deb822 form; those of backports stand on their release's."""
    release = suite.removesuffix("-backports")

    def stanza(uri: str, suites: str) -> str:
        return f"Types: deb\nURIs: {uri}\nSuites: {suites}\nComponents: main\nSigned-By: {mirrors.keyring}\n"

    text = stanza(mirrors.main, " ".join(dict.fromkeys([release, suite])))
    if mirrors.security:
        text += "\n" + stanza(mirrors.security, f"{release}-security")
    return text


def host_mirrors() -> Mirrors:
    """Ask the host's apt for its mirrors."""
    command = ["apt-get", "indextargets", "Created-By: Packages"]
    return parse_mirrors(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
