# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian packages of a fixed suite, read through a private apt root that needs no privileges.

Mirror addresses come from the host's own apt configuration, only the suite changes; the host's sources
and lists stay untouched. apt itself fetches and verifies everything: packages by its signed indexes,
single files by a SHA-256 of ours.
"""

import os
import re
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cprtest.errors import CprError
from cprtest.paths import cache_dir
from cprtest.provision import processes, progress
from cprtest.provision.files import verify_sha256, write_atomically
from cprtest.provision.installed import SUITE

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
LISTS_MAX_AGE = 6 * 3600  # seconds; older lists may name versions that the mirror has dropped
HELPER = "/usr/lib/apt/apt-helper"

_one_at_a_time = threading.Lock()  # apt locks its directories, but does not wait


@dataclass(frozen=True)
class Mirrors:
    """Where the host gets Debian from: main archive, security archive if configured, and the keyring."""

    main: str
    security: str | None
    keyring: str = KEYRING


@dataclass(frozen=True)
class Deb:
    """One downloaded package."""

    name: str
    version: str
    path: Path


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


def sources(mirrors: Mirrors, suite: str = SUITE) -> str:
    """Write the private root's sources in deb822 form."""

    def stanza(uri: str, suites: str) -> str:
        return f"Types: deb\nURIs: {uri}\nSuites: {suites}\nComponents: main\nSigned-By: {mirrors.keyring}\n"

    text = stanza(mirrors.main, suite)
    if mirrors.security:
        text += "\n" + stanza(mirrors.security, f"{suite}-security")
    return text


def host_mirrors() -> Mirrors:
    """Ask the host's apt for its mirrors."""
    command = ["apt-get", "indextargets", "Created-By: Packages"]
    return parse_mirrors(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


class PrivateRoot:
    """An apt root of our own below the cache directory."""

    def __init__(self) -> None:
        self.path = cache_dir() / "apt"
        self.archives = self.path / "cache" / "archives"
        self._environment = {**os.environ, "APT_CONFIG": str(self.path / "apt.conf"), "LC_ALL": "C.UTF-8"}

    def _configure(self) -> None:
        for name in ("state/lists/partial", "cache/archives/partial"):
            (self.path / name).mkdir(parents=True, exist_ok=True)
        (self.path / "status").touch()
        write_atomically(self.path / "debian.sources", sources(host_mirrors()))
        # How to reach mirrors (proxies, certificates, retries) is taken over from the host, not its hooks.
        dump = subprocess.run(
            ["apt-config", "dump", "Acquire"], check=True, capture_output=True, text=True
        ).stdout
        skip = (
            "Acquire::IndexTargets",
            "Acquire::Changelogs",
            "Acquire::Languages",
            "Acquire::CompressionTypes",
        )
        reach = [
            line for line in dump.splitlines() if line.startswith("Acquire::") and not line.startswith(skip)
        ]
        own = {
            "Dir::State": self.path / "state",
            "Dir::State::status": self.path / "status",
            "Dir::Cache": self.path / "cache",
            "Dir::Etc::parts": "/dev/null",
            "Dir::Etc::main": "/dev/null",
            "Dir::Etc::sourcelist": self.path / "debian.sources",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "Acquire::Languages": "none",
            "APT::Architecture": "amd64",
            "APT::Architectures": "amd64",
            "APT::Install-Recommends": "false",
            "APT::Sandbox::User": "root",  # downloads go to the cache, which the user _apt may not enter
        }
        lines = reach + [f'{key} "{value}";' for key, value in own.items()]
        write_atomically(self.path / "apt.conf", "\n".join(lines) + "\n")

    def run(self, command: Sequence[str], what: str) -> str:
        """Run an apt command in this root, show its progress, return what it printed."""
        with progress.task(what) as task:
            return run_with_status(command, task, self._environment, cwd=self.archives)

    def update(self, max_age: float = LISTS_MAX_AGE) -> None:
        """Fetch the package lists unless they are younger than `max_age` seconds.

        Without network, lists that are there already will do.
        """
        stamp = self.path / "updated"
        if stamp.exists() and time.time() - stamp.stat().st_mtime < max_age:
            return
        self._configure()
        try:
            self.run(["apt-get", "update", "--error-on=any"], f"package lists of Debian {SUITE}")
        except CprError:
            if not stamp.exists():
                raise
            return
        stamp.touch()

    def download(self, packages: Sequence[str]) -> list[Deb]:
        """Download `packages` and all they depend on; already downloaded ones are not fetched again."""
        install = ["apt-get", "install", "--yes", "--no-install-recommends"]
        plan = subprocess.run(
            [*install, "--simulate", *packages],
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if plan.returncode:
            raise CprError(f"apt cannot get {' '.join(packages)} from Debian {SUITE}: {plan.stderr.strip()}")
        debs = [
            self._deb(*found) for found in re.findall(r"^Inst (\S+) \((\S+) .*\[(\w+)\]\)", plan.stdout, re.M)
        ]
        if not all(deb.path.exists() for deb in debs):
            named = packages[0] if len(packages) == 1 else f"{packages[0]} and {len(packages) - 1} more"
            self.run([*install, "--download-only", *packages], f"packages: {named}")
        return debs

    def download_alone(self, package: str) -> Deb:
        """Download one package without what it depends on."""
        command = ["apt-get", "download", package]
        # not in `archives`: apt prints no address of a file that is there already
        uris = subprocess.run(
            [*command, "--print-uris"],
            cwd=self.path,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        found = re.search(r"^'.*' (([^_ ]+)_([^_ ]+)_\w+\.deb) ", uris.stdout, re.M)
        if found is None:
            raise CprError(f"Debian {SUITE} has no package {package}: {uris.stderr.strip()}")
        path = self.archives / found[1]
        if not path.exists():
            self.run(command, f"package: {package}")
        return Deb(found[2], found[3].replace("%3a", ":"), path)

    def dependencies(self, package: str) -> list[str]:
        """Names of the packages that `package` directly depends on (first alternatives only)."""
        command = ["apt-cache", "show", "--no-all-versions", package]
        record = subprocess.run(
            command, env=self._environment, capture_output=True, text=True, check=False
        ).stdout
        found = re.search(r"^Depends: (.*)$", record, re.M)
        return [part.split()[0] for part in found[1].split(", ")] if found else []

    def _deb(self, name: str, version: str, architecture: str) -> Deb:
        file = f"{name}_{version.replace(':', '%3a')}_{architecture}.deb"
        return Deb(name.partition(":")[0], version, self.archives / file)


def run_with_status(
    command: Sequence[str], task: progress.Task, environment: Mapping[str, str], cwd: Path | None = None
) -> str:
    """Run an apt command with its machine-readable status shown in `task`; returns what it printed.

    Raises CprError in apt's own words if it fails.
    """
    read, write = os.pipe()
    output: list[str] = []
    try:
        with (
            os.fdopen(read) as status,
            processes.started(
                [*command, "-o", f"APT::Status-Fd={write}"], environment, cwd, pass_fds=(write,)
            ) as apt,
        ):
            os.close(write)
            write = -1
            assert apt.stdout is not None
            reader = threading.Thread(target=output.extend, args=(apt.stdout,), daemon=True)
            reader.start()
            for line in status:  # dlstatus:item:percent:words, see apt's README.progress-reporting
                kind, _, rest = line.partition(":")
                words = rest.split(":", 2)
                if kind in ("dlstatus", "pmstatus") and len(words) == 3:
                    task.update(float(words[1]), words[2].strip())
            code = apt.wait()
            reader.join()
    finally:
        if write >= 0:
            os.close(write)
    if code:
        errors = [line.strip() for line in output if line.startswith("E:")] or output[-3:]
        raise CprError(
            f"`{' '.join(command[:2])}` failed: {' '.join(errors).strip() or f'exit status {code}'}"
        )
    return "".join(output)


def fetch_debs(packages: Sequence[str], max_age: float = LISTS_MAX_AGE) -> list[Deb]:
    """Download `packages` of Debian SUITE (and its security archive) with all they depend on.

    Raises CprError in apt's words. Needs no privileges. With all of it in the cache it needs no network.
    """
    with _one_at_a_time:
        root = PrivateRoot()
        root.update(max_age)
        try:
            return root.download(packages)
        except CprError:
            root.update(max_age=60)  # the lists may be older than what the mirror still holds
            return root.download(packages)


def fetch_alone(package: str) -> Deb:
    """Download one package, and nothing that it depends on."""
    with _one_at_a_time:
        root = PrivateRoot()
        root.update()
        return root.download_alone(package)


def dependencies(package: str) -> list[str]:
    """Names of the packages that `package` directly depends on."""
    with _one_at_a_time:
        root = PrivateRoot()
        root.update()
        return root.dependencies(package)


def extract(debs: Sequence[Deb], dest: Path) -> None:
    """Unpack packages below `dest` without privileges; maintainer scripts do not run.

    The links /bin, /lib, /lib64 and /sbin of a merged /usr are made first, as base-files would.
    """
    dest.mkdir(parents=True, exist_ok=True)
    for name in ("bin", "lib", "lib64", "sbin"):
        (dest / "usr" / name).mkdir(parents=True, exist_ok=True)
        if not (dest / name).is_symlink():
            (dest / name).symlink_to(f"usr/{name}")
    for deb in debs:
        done = subprocess.run(["dpkg-deb", "-x", deb.path, dest], capture_output=True, text=True, check=False)
        if done.returncode:
            raise CprError(f"unpacking {deb.path.name} failed: {done.stderr.strip()}")


def fetch_tree(packages: Sequence[str], dest: Path) -> dict[str, str]:
    """Download `packages` with all they depend on, unpack them into `dest`; returns version by package name.

    `dest` holds far more than the named packages need at run time: copy out what is wanted.
    """
    debs = fetch_debs(packages)
    extract(debs, dest)
    return {deb.name: deb.version for deb in debs}


def fetch_file(pool_path: str, sha256: str, dest: Path) -> Path:
    """Fetch one file below the main archive's root, such as pool/main/q/qemu/..., into `dest`.

    `dest` is there whole and verified or not at all; a verified one is not fetched again.
    """
    if dest.exists():
        verify_sha256(dest, sha256)
        return dest
    dest.parent.mkdir(parents=True, exist_ok=True)
    part = dest.with_name(dest.name + ".part")
    with _one_at_a_time:
        root = PrivateRoot()
        root.update(max_age=float("inf"))
        uri = f"{host_mirrors().main.rstrip('/')}/{pool_path}"
        try:
            root.run([HELPER, "download-file", uri, str(part), f"SHA256:{sha256}"], f"source: {dest.name}")
            verify_sha256(part, sha256)
            part.replace(dest)
        except CprError as error:
            raise CprError(f"{error} If you have {dest.name} from elsewhere, put it at {dest}.") from error
        finally:
            Path(f"{part}.FAILED").unlink(missing_ok=True)  # apt keeps a file whose hash is wrong
    return dest
