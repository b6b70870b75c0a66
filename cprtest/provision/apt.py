# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian packages and source files of a fixed suite, fetched and unpacked without privileges.

apt itself fetches and verifies everything: packages by its signed indexes, single files by a SHA-256 of ours.
"""

import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

from cprtest.errors import CprError
from cprtest.provision.aptroot import LISTS_MAX_AGE, Deb, PrivateRoot
from cprtest.provision.files import verify_sha256
from cprtest.provision.installed import SUITE

HELPER = "/usr/lib/apt/apt-helper"

_one_at_a_time = threading.Lock()  # apt locks its directories, but does not wait


def fetch_debs(packages: Sequence[str], max_age: float = LISTS_MAX_AGE, suite: str = SUITE) -> list[Deb]:
    """Download `packages` of Debian `suite` (and its security archive) with all they depend on.

    Raises CprError in apt's words. Needs no privileges. With all of it in the cache it needs no network.
    """
    with _one_at_a_time:
        root = PrivateRoot(suite)
        root.update(max_age)
        try:
            return root.download(packages)
        except CprError:
            root.update(max_age=60)  # the lists may be older than what the mirror still holds
            return root.download(packages)


def fetch_alone(package: str, suite: str = SUITE) -> Deb:
    """Download one package, and nothing that it depends on."""
    with _one_at_a_time:
        root = PrivateRoot(suite)
        root.update()
        return root.download_alone(package)


def dependencies(package: str, suite: str = SUITE) -> list[str]:
    """Names of the packages that `package` directly depends on."""
    with _one_at_a_time:
        root = PrivateRoot(suite)
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
        uri = f"{root.main_archive()}/{pool_path}"
        try:
            root.run([HELPER, "download-file", uri, str(part), f"SHA256:{sha256}"], f"source: {dest.name}")
            verify_sha256(part, sha256)
            part.replace(dest)
        except CprError as error:
            raise CprError(f"{error} If you have {dest.name} from elsewhere, put it at {dest}.") from error
        finally:
            Path(f"{part}.FAILED").unlink(missing_ok=True)  # apt keeps a file whose hash is wrong
    return dest
