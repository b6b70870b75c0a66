# SPDX-License-Identifier: GPL-2.0-or-later
"""The private apt root: mirrors from the host's configuration, and what apt says when it fails."""

import os

import pytest

from cprtest.errors import CprError
from cprtest.provision import aptroot, mirrors, progress

HOST = """\
MetaKey: main/binary-amd64/Packages
Codename: bookworm-updates
Origin: Debian
Component: main
Release: bookworm-backports
Repo-URI: mirror+file:/etc/apt/mirrors/backports.list/

MetaKey: main/binary-amd64/Packages
Origin: Debian
Component: main
Release: bookworm
Repo-URI: https://mirror.test/debian/
Signed-By: /usr/share/keyrings/of-the-host.pgp

MetaKey: main/binary-amd64/Packages
Origin: Debian
Component: main
Release: bookworm-security
Repo-URI: https://security.test/debian-security/

MetaKey: main/binary-amd64/Packages
Origin: Somebody
Component: main
Release: stable
Repo-URI: https://vendor.test/
"""


def test_mirrors_are_the_hosts_own() -> None:
    found = mirrors.parse_mirrors(HOST)
    assert found.main == "https://mirror.test/debian/"
    assert found.security == "https://security.test/debian-security/"
    assert found.keyring == "/usr/share/keyrings/of-the-host.pgp"


def test_only_the_suite_changes() -> None:
    text = mirrors.sources(mirrors.parse_mirrors(HOST), "sid")
    assert "URIs: https://mirror.test/debian/\nSuites: sid\n" in text
    assert "URIs: https://security.test/debian-security/\nSuites: sid-security\n" in text
    assert text.count("Signed-By: /usr/share/keyrings/of-the-host.pgp\n") == 2


def test_without_a_security_entry_only_the_main_suite() -> None:
    main_only = "\n\n".join(stanza for stanza in HOST.split("\n\n") if "security" not in stanza)
    assert "security" not in mirrors.sources(mirrors.parse_mirrors(main_only), "sid")


def test_key_text_as_signed_by_falls_back_to_debians_keyring() -> None:
    text = HOST.replace("/usr/share/keyrings/of-the-host.pgp", "-----BEGIN PGP PUBLIC KEY BLOCK-----")
    assert mirrors.parse_mirrors(text).keyring == mirrors.KEYRING


def test_a_host_without_debian_says_what_to_do() -> None:
    with pytest.raises(CprError, match="apt-get update"):
        mirrors.parse_mirrors("")


def test_a_failing_apt_is_quoted() -> None:
    script = "echo 'Reading...'; echo 'E: Unable to locate package nosuch'; exit 100"
    with pytest.raises(CprError, match="E: Unable to locate package nosuch"), progress.task("apt") as task:
        aptroot.run_with_status(["sh", "-c", script], task, os.environ)


def test_apts_status_becomes_progress() -> None:
    seen: list[tuple[float, str]] = []

    class Recorder:
        def update(self, percent: float, text: str = "") -> None:
            seen.append((percent, text))

    # $2 is APT::Status-Fd=N: apt writes its status lines there
    script = 'eval "echo dlstatus:1:37.5:Fetching file 1 of 2 >/proc/self/fd/${2#*=}"'
    aptroot.run_with_status(["sh", "-c", script, "sh"], Recorder(), os.environ)
    assert seen == [(37.5, "Fetching file 1 of 2")]
