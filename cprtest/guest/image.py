# SPDX-License-Identifier: GPL-2.0-or-later
"""Build the guest image from Debian packages, without root: `python -m cprtest.guest.image`.

CACHE/guest/IDENT holds initrd.img, tools.erofs (cprtest.guest.tools), id_ed25519 (root's SSH key in OpenSSH's
form) and its .pub, and host_key.pub. IDENT is a hash of everything in both images but the keys, so that the
same inputs are built once.
Keys are made here, for this user alone, by dropbear's own tools.
"""

import hashlib
import io
import os
import shutil
import sys
import tempfile
from pathlib import Path

from cprtest import paths
from cprtest.guest import cpio, modules, tools
from cprtest.guest.tree import Tree
from cprtest.provision import apt, installed, programs
from cprtest.provision.aptroot import Deb

# What the programs below come from; the loader tells when a library's package is missing here.
PACKAGES = (
    "busybox-static",
    *("dropbear-bin", "libtomcrypt1", "libtommath1", "libgmp10", "libcrypt1", "zlib1g"),
    *("iperf3", "libiperf0", "libsctp1", "libssl3t64", "libzstd1"),
    *("ethtool", "libmnl0"),
    *("socat", "libwrap0"),
    "libc6",
)
PROGRAMS = ("usr/sbin/dropbear", "usr/bin/iperf3", "usr/sbin/ethtool", "usr/bin/socat")
BUSYBOX = "usr/bin/busybox"
SCRIPTS = {
    "init": "init",
    **{name: f"usr/bin/{name}" for name in ("set-addresses", "console-shell", "use-tools")},
}


def contents(tree: Tree, kernel_modules: Path, release: str) -> dict[str, cpio.Entry]:
    """Everything in the image but the keys.

    tree: the unpacked packages; kernel_modules: .../lib/modules/RELEASE with depmod's indexes.
    """
    entries = {
        "dev/console": cpio.character_device(5, 1),
        "proc": cpio.directory(),
        "sys": cpio.directory(),
        "run": cpio.directory(),
        "tmp": cpio.directory(0o1777),
        "root": cpio.directory(0o700),
        "etc/passwd": cpio.file(b"root:x:0:0:root:/root:/bin/sh\n"),
        "etc/group": cpio.file(b"root:x:0:\n"),
        "etc/shells": cpio.file(b"/bin/sh\n"),
    }
    # One directory of programs under the names that scripts expect.
    entries |= {name: cpio.symlink("usr/bin") for name in ("bin", "sbin")}
    entries["usr/sbin"] = cpio.symlink("bin")
    for applet in tree.run(BUSYBOX, "--list").decode().split():
        entries[f"usr/bin/{applet}"] = cpio.symlink("busybox")
    entries["usr/bin/busybox"] = cpio.file(tree.read(BUSYBOX), 0o755)
    for source, name in SCRIPTS.items():
        script = (paths.ASSETS / "guest" / source).read_bytes()
        entries[name] = cpio.file(script, 0o755)
    for program in PROGRAMS:
        entries[f"usr/bin/{Path(program).name}"] = cpio.file(tree.read(program), 0o755)
    for ours in programs.sources("guest"):
        entries[f"usr/bin/{ours.stem}"] = cpio.file(programs.compiled(ours).read_bytes(), 0o755)
    for name, path in tree.libraries(PROGRAMS).items():
        entries[name] = cpio.file(path.read_bytes(), 0o755)
    return entries | _modules(kernel_modules, release)


def _modules(root: Path, release: str) -> dict[str, cpio.Entry]:
    """Drivers, flat in lib/modules/RELEASE, and `lib/modules/load`: their names in the order to load them."""
    index = modules.Index.read(root)
    names = index.in_load_order(modules.WANTED)
    base = f"lib/modules/{release}"
    entries = {f"{base}/{name}.ko": cpio.file(index.contents(name)) for name in names}
    entries[f"{base}/modules.dep"] = cpio.file(index.dep_file(names).encode())
    entries["lib/modules/load"] = cpio.file(("\n".join(names) + "\n").encode())
    return entries


def identity(*images: dict[str, cpio.Entry]) -> str:
    """A short hash of what is in `images` and of how the tools disk is made."""
    stream = io.BytesIO()
    for entries in images:
        cpio.write(stream, entries)
    return hashlib.sha256(stream.getvalue() + repr(tools.OPTIONS).encode()).hexdigest()[:16]


def build(cache: Path, suite: str = installed.SUITE) -> tuple[Path, dict[str, str]]:
    """Make sure that the image of today's packages is in `cache`; returns its directory, and their versions.

    suite: whose kernel it is for; everything else in it is the same.

    Safe against a second build at the same time and against being killed: the directory appears whole.
    """
    kernel = installed.kernel(suite)
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".packages-", dir=cache) as scratch:
        # What they depend on by Debian's rules is mostly for set-up scripts, which never run here.
        debs = [deb for deb in apt.fetch_debs(PACKAGES) if deb.name in PACKAGES]
        tree = _unpacked(debs, Path(scratch, "guest"))
        entries = contents(tree, kernel.modules, kernel.release)
        more = apt.fetch_debs(tools.PACKAGES)
        disk = tools.contents(_unpacked(more, Path(scratch, "tools")))
        target = cache / identity(entries, disk)
        if not target.is_dir():
            write(tree, entries, disk, target)
    return target, {f"guest {deb.name}": deb.version for deb in [*debs, *more]}


def _unpacked(debs: list[Deb], directory: Path) -> Tree:
    apt.extract(debs, directory)
    return Tree(directory)


def write(tree: Tree, entries: dict[str, cpio.Entry], disk: dict[str, cpio.Entry], target: Path) -> None:
    """Make keys, write them and both images to the directory `target`, which appears whole or not at all."""
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=target.parent))
    try:
        keys = _keys(tree, partial)
        with (partial / "initrd.img").open("wb") as stream:
            cpio.write(stream, entries | keys)
        tools.write(disk, partial / "tools.erofs")
        try:
            partial.rename(target)
        except OSError:
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _keys(tree: Tree, directory: Path) -> dict[str, cpio.Entry]:
    """Make the guest's host key and root's key; private parts get mode 600."""
    host, user = directory / "host_key", directory / "user_key"
    private = directory / "id_ed25519"
    for key in (host, user):
        tree.run("usr/bin/dropbearkey", "-t", "ed25519", "-f", str(key))
        listing = tree.run("usr/bin/dropbearkey", "-y", "-f", str(key)).decode()
        public = next(line for line in listing.splitlines() if line.startswith("ssh-ed25519"))
        name = "host_key.pub" if key is host else "id_ed25519.pub"
        (directory / name).write_text(" ".join(public.split()[:2]) + "\n")
    tree.run("usr/bin/dropbearconvert", "dropbear", "openssh", str(user), str(private))
    private.chmod(0o600)
    entries = {
        "etc/dropbear/host_key": cpio.file(host.read_bytes(), 0o600),
        "root/.ssh": cpio.directory(0o700),
        "root/.ssh/authorized_keys": cpio.file((directory / "id_ed25519.pub").read_bytes(), 0o600),
    }
    host.unlink()
    user.unlink()
    user.with_suffix(".pub").unlink(missing_ok=True)
    return entries


def main() -> int:
    """Build the image and print its directory."""
    os.umask(0o077)
    print(build(paths.cache_dir() / "guest")[0])
    return 0


if __name__ == "__main__":
    sys.exit(main())
