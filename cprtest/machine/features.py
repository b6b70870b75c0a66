# SPDX-License-Identifier: GPL-2.0-or-later
"""What a QEMU binary can do, asked of itself over QMP, once per binary.

QEMU is started without a machine (`-machine none`), answers in a tenth of a second and quits. The
answer is kept in the cache as long as the file stays the same.
"""

import functools
import json
import os
import select
import struct
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cprtest.errors import UsageError
from cprtest.host.answers import remembered
from cprtest.limits import stretched

OLDEST = (10, 0)
"""The first release with cpr-transfer (docs/devel/migration/CPR.rst)."""

_FORMAT = 6
ARCHITECTURES = ("x86_64", "aarch64")
"""Those that the tests have command lines for (cprtest.machine.boards.BOARDS)."""

_GREETING_LIMIT = 10.0
_ANSWER_LIMIT = 10.0
_QUESTIONS: dict[str, dict[str, Any]] = {
    "qmp_capabilities": {},
    "query-version": {},
    "query-target": {},
    "query-kvm": {},
    "query-machines": {},
    "query-qmp-schema": {},
    "qom-list-types": {"abstract": False},
    # The schema says nothing of VFIO and of the order of things. Trace events do: a build that can tell
    # of something does it, whatever version it calls itself.
    "trace-event-get-state": {"name": "*_cpr_*"},
    "query-command-line-options": {"option": "sandbox"},
    "quit": {},
}


@dataclass(frozen=True)
class Features:
    """One QEMU binary. `names`: migration modes, capabilities and parameters, kvm, tcg, vfio-cpr,
    tap-cpr (-netdev tap,cpr=on), sandbox (-sandbox), and its trace events about cpr as trace:NAME.

    `text` is how it names its version; `devices` what types -device and -object accept; `build_id` the
    linker's hash of it (None when it was built without); `machines` the full name of each machine type, by
    that name and by its alias.
    """

    architecture: str
    version: tuple[int, ...]
    text: str
    build_id: str | None
    migration_modes: frozenset[str]
    names: frozenset[str]
    commands: frozenset[str]
    devices: frozenset[str]
    machines: Mapping[str, str]

    def has(self, word: str) -> bool:
        """Whether it has the feature, command or device `word`, or is at least of version `word` ("10.1")."""
        if word[:1].isdecimal():
            wanted = tuple(int(part) for part in word.split("."))
            return self.version[: len(wanted)] >= wanted
        return word in self.names or word in self.devices or word in self.commands


def features(qemu: Path) -> Features:
    """What the binary `qemu` can do. Raises UsageError, one sentence, when it is no QEMU that we can test."""
    qemu = qemu.absolute()
    try:
        status = qemu.stat()
    except OSError as error:
        raise UsageError(
            f"{qemu}: {error.strerror}. Give the path of a qemu-system-x86_64 binary."
        ) from error
    return _features(qemu, status.st_size, status.st_mtime_ns)


@functools.cache
def _features(qemu: Path, size: int, mtime_ns: int) -> Features:
    if qemu.is_dir():
        raise UsageError(f"{qemu} is a directory. Give the path of a qemu-system-x86_64 binary.")
    if not os.access(qemu, os.X_OK):
        raise UsageError(f"{qemu} is not executable. Give the path of a qemu-system-x86_64 binary.")
    key = (_FORMAT, str(qemu), size, mtime_ns)
    known = remembered("qemu-features", key, lambda: _as_json(_ask(qemu)))
    fields: dict[str, Any] = {
        name: frozenset(value) if isinstance(value, list) else value for name, value in known.items()
    }
    found = Features(**{**fields, "version": tuple(known["version"])})
    _check(qemu, found)
    return found


def _as_json(found: Features) -> dict[str, Any]:
    return {
        key: sorted(value) if isinstance(value, frozenset) else value for key, value in asdict(found).items()
    }


def _check(qemu: Path, found: Features) -> None:
    if found.version[:2] < OLDEST:
        raise UsageError(f"{qemu} is QEMU {found.text}; cpr-transfer came with 10.0, so give a newer one.")
    if "cpr-transfer" not in found.migration_modes:
        raise UsageError(f"{qemu} is QEMU {found.text}, but built without the migration mode cpr-transfer.")


def _ask(qemu: Path) -> Features:
    answers = _converse(qemu)
    architecture = answers["query-target"].get("arch")
    if architecture not in ARCHITECTURES:
        raise UsageError(f"{qemu} is a QEMU for {architecture}; {' or '.join(ARCHITECTURES)} is needed.")
    version = answers["query-version"]["qemu"]
    numbers = (version["major"], version["minor"], version["micro"])
    package = answers["query-version"]["package"]
    text = ".".join(map(str, numbers)) + (f" ({package})" if package else "")
    schema = _Schema(answers["query-qmp-schema"])
    modes = frozenset(schema.values("migrate-set-parameters", "mode"))
    devices = frozenset(entry["name"] for entry in answers["qom-list-types"])
    names = {"tcg", *modes, *schema.arguments("migrate-set-parameters")}
    names |= set(schema.values("migrate-set-capabilities", "capabilities", "capability"))
    if answers["query-kvm"].get("present"):
        names.add("kvm")
    names |= {f"trace:{event['name']}" for event in answers["trace-event-get-state"]}
    if "vfio-pci" in devices and ("trace:vfio_cpr_find_device" in names or numbers >= (10, 1)):
        names.add("vfio-cpr")
    if "cpr" in schema.branch("netdev_add", "tap"):
        names.add("tap-cpr")
    if answers["query-command-line-options"]:
        names.add("sandbox")
    return Features(
        architecture,
        numbers,
        text,
        build_id(qemu),
        modes,
        frozenset(names),
        frozenset(schema.commands),
        devices,
        {
            word: m["name"]
            for m in answers["query-machines"]
            for word in (m["name"], m.get("alias", m["name"]))
        },
    )


class _Schema:
    """The answer to query-qmp-schema. Types have numbers for names, so they are found from their commands."""

    def __init__(self, entries: list[dict[str, Any]]) -> None:
        self._types = {entry["name"]: entry for entry in entries if entry["meta-type"] != "command"}
        self.commands = {e["name"]: e["arg-type"] for e in entries if e["meta-type"] == "command"}

    def arguments(self, command: str) -> list[str]:
        """Names of the command's arguments."""
        return [m["name"] for m in self._types.get(self.commands.get(command), {}).get("members", [])]

    def branch(self, command: str, case: str) -> list[str]:
        """Names of the arguments that the command has in `case` of the one that tells its cases apart."""
        variants = self._types.get(self.commands.get(command), {}).get("variants", [])
        kind = next((variant["type"] for variant in variants if variant["case"] == case), None)
        return [m["name"] for m in self._types.get(kind, {}).get("members", [])]

    def values(self, command: str, *path: str) -> list[str]:
        """The words allowed where `path` (argument, member of it, ...) leads; none if it leads nowhere."""
        found: dict[str, Any] = self._types.get(self.commands.get(command), {})
        for name in path:
            kind = next((m["type"] for m in found.get("members", []) if m["name"] == name), None)
            found = self._types.get(kind, {})
            if found.get("meta-type") == "array":
                found = self._types[found["element-type"]]
        return list(found.get("values", []))


def _converse(qemu: Path) -> dict[str, Any]:
    """Ask all questions and return the answers by command; an error counts as an empty answer."""
    argv = [
        str(qemu),
        "-machine",
        "none",
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-qmp",
        "stdio",
    ]
    try:
        process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
        )
    except OSError as error:
        raise UsageError(f"{qemu} cannot be started: {error.strerror}.") from error
    with process:
        try:
            assert process.stdout is not None
            ready, _, _ = select.select([process.stdout], [], [], stretched(_GREETING_LIMIT))
            if not ready or b'"QMP"' not in os.read(process.stdout.fileno(), 65536):
                process.kill()
                raise UsageError(_not_qemu(qemu, process))
            asked = [{"execute": c, "arguments": a, "id": c} for c, a in _QUESTIONS.items()]
            lines = "".join(json.dumps(question) + "\n" for question in asked)
            out, _ = process.communicate(lines.encode(), timeout=stretched(_ANSWER_LIMIT))
        except subprocess.TimeoutExpired as error:
            raise UsageError(f"{qemu} greets like QEMU, but does not answer on its monitor.") from error
        finally:
            process.kill()
    replies = [json.loads(line) for line in out.splitlines() if line.strip()]
    answers = {reply["id"]: reply.get("return", {}) for reply in replies if "id" in reply}
    if len(answers) < len(_QUESTIONS):
        raise UsageError(f"{qemu} greets like QEMU, but ended before it had answered on its monitor.")
    return answers


def _not_qemu(qemu: Path, process: subprocess.Popen[bytes]) -> str:
    assert process.stderr is not None
    words = process.stderr.read(65536).decode(errors="replace").strip().splitlines()
    said = f" It said: {words[-1]}" if words else ""
    return f"{qemu} does not behave like QEMU.{said} Give the path of a qemu-system-x86_64 binary."


def build_id(program: Path) -> str | None:
    """The GNU build id of an ELF program, as hexadecimal digits (elf(5), PT_NOTE, NT_GNU_BUILD_ID)."""
    with program.open("rb") as file:
        head = file.read(64)
        if head[:5] != b"\x7fELF\x02":
            return None
        (table,) = struct.unpack_from("<Q", head, 32)
        size, count = struct.unpack_from("<HH", head, 54)
        for index in range(count):
            file.seek(table + index * size)
            kind, _, offset, _, _, length = struct.unpack("<IIQQQQ", file.read(40))
            if kind == 4:  # PT_NOTE
                file.seek(offset)
                for name, note, content in _notes(file.read(length)):
                    if name == b"GNU\0" and note == 3:  # NT_GNU_BUILD_ID
                        return content.hex()
    return None


def _notes(data: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    offset = 0
    while offset + 12 <= len(data):
        name_size, size, kind = struct.unpack_from("<III", data, offset)
        name_at = offset + 12
        at = name_at + (name_size + 3 & ~3)
        yield data[name_at : name_at + name_size], kind, data[at : at + size]
        offset = at + (size + 3 & ~3)
