# SPDX-License-Identifier: GPL-2.0-or-later
"""An apt root of our own below the cache directory, for a suite that need not be the host's.

Mirror addresses come from the host's own apt configuration, only the suite changes; the host's sources
and lists stay untouched. Needs no privileges.
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
from cprtest.provision.files import write_atomically
from cprtest.provision.installed import SUITE
from cprtest.provision.mirrors import host_mirrors, sources

LISTS_MAX_AGE = 6 * 3600  # seconds; older lists may name versions that the mirror has dropped


@dataclass(frozen=True)
class Deb:
    """One downloaded package."""

    name: str
    version: str
    path: Path


class PrivateRoot:
    """An apt root of our own below the cache directory, for `suite`; downloads of all suites lie together."""

    def __init__(self, suite: str = SUITE) -> None:
        self.suite = suite
        self.path = cache_dir() / "apt" / suite
        self._cache = self.path.parent / "cache"
        self.archives = self._cache / "archives"
        self._preferences = self.path / "preferences"
        self._sources = self.path / "debian.sources"
        self._environment = {**os.environ, "APT_CONFIG": str(self.path / "apt.conf"), "LC_ALL": "C.UTF-8"}
        self._configure()

    def _configure(self) -> None:
        for directory in (self.path / "state" / "lists", self.archives):
            (directory / "partial").mkdir(parents=True, exist_ok=True)
        (self.path / "status").touch()
        # Backports are wanted when they are named: by themselves they would come last.
        pin = f"Package: *\nPin: release n={self.suite}\nPin-Priority: 500\n"
        write_atomically(self._preferences, pin)
        try:
            write_atomically(self._sources, sources(host_mirrors(), self.suite))
        except CprError:
            if not self._sources.exists():  # else the mirrors of last time will do
                raise
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
            "Dir::Cache": self._cache,
            "Dir::Cache::pkgcache": "",  # those two are of one suite
            "Dir::Cache::srcpkgcache": "",
            "Dir::Etc::parts": "/dev/null",
            "Dir::Etc::main": "/dev/null",
            "Dir::Etc::sourcelist": self._sources,
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferences": self._preferences,
            "Dir::Etc::preferencesparts": "/dev/null",
            "Acquire::Languages": "none",
            "APT::Architecture": "amd64",
            "APT::Architectures": "amd64",
            "APT::Install-Recommends": "false",
            "APT::Sandbox::User": "root",  # downloads go to the cache, which the user _apt may not enter
        }
        lines = reach + [f'{key} "{value}";' for key, value in own.items()]
        write_atomically(self.path / "apt.conf", "\n".join(lines) + "\n")

    def main_archive(self) -> str:
        """The address of the main archive's root."""
        found = re.search(r"^URIs: (.*?)/*$", self._sources.read_text(encoding="utf-8"), re.M)
        assert found, "sources() writes the main archive first"
        return found[1]

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
        try:
            self.run(["apt-get", "update", "--error-on=any"], f"package lists of Debian {self.suite}")
        except CprError as error:
            if not stamp.exists():
                raise CprError(f"set-up needs the network once, to fill its cache: {error}") from error
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
            raise CprError(
                f"apt cannot get {' '.join(packages)} from Debian {self.suite}: {plan.stderr.strip()}"
            )
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
            raise CprError(f"Debian {self.suite} has no package {package}: {uris.stderr.strip()}")
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
    command: Sequence[str],
    task: progress.Task,
    environment: Mapping[str, str],
    cwd: Path | None = None,
    *,
    finish: bool = False,
) -> str:
    """Run an apt command with its machine-readable status shown in `task`; returns what it printed.

    finish: let it finish when we are interrupted.
    Raises CprError in apt's own words if it fails.
    """
    read, write = os.pipe()
    output: list[str] = []
    try:
        with (
            os.fdopen(read) as status,
            processes.started(
                [*command, "-o", f"APT::Status-Fd={write}"],
                environment,
                cwd,
                pass_fds=(write,),
                finish=finish,
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
