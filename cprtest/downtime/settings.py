# SPDX-License-Identifier: GPL-2.0-or-later
"""What is measured: a setting is one kind of hand-over of one kind of guest, an experiment compares some.

A setting is written as a word: `[MODE@]QEMU[,NAME=VALUE...]`, as in `stock`, `cpr-exec@reference`,
`reference,load=memory,vcpus=2`, `mutants:stop-slow=5`.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from cprtest.errors import UsageError

MODES = {
    "cpr-transfer": "to a new QEMU, memory and devices by descriptor",
    "cpr-exec": "the process becomes the new QEMU",
    "cpr-reboot": "memory stays in a file in /dev/shm, devices through another file, old QEMU ended first",
    "live": "ordinary live migration, memory copied to a QEMU on the same host",
    "backend-transfer": "live migration that keeps memory and back ends, where QEMU has it",
}


def _written(value: Any) -> str:
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)


@dataclass(frozen=True)
class Setting:
    """One thing to measure. The field names are the names in a setting's word, and in the record.

    load: a name of loads.LOADS. memory: MiB. backing: of the memory: memfd, hugepages or shm.
    disks: besides the one whose writes are timed.
    vfio: passthrough devices (lab). bar: MiB of the BAR of one more (lab with --ivshmem 64M,1M,...), or 0.
    data: MiB of state of one more that could migrate it (vfio-bulk), or 0; migration: QEMU's
    enable-migration for it. ahead: the target has been started and waits before `migrate` is given.
    kernel: it loads the guest's kernel and initial RAM disk, as its command line says; nobody needs them.
    observers: a name of observers.OBSERVERS. again: tells the second of two equal settings from the first.
    """

    qemu: str = "reference"
    mode: str = "cpr-transfer"
    load: str = "idle"
    memory: int = 256
    backing: str = "memfd"
    vcpus: int = 1
    nics: int = 1
    queues: int = 1
    disks: int = 0
    vfio: int = 0
    bar: int = 0
    data: int = 0
    migration: str = "auto"
    vhost: bool = False
    ahead: bool = True
    kernel: bool = True
    observers: str = "blackout"
    again: bool = False

    def __str__(self) -> str:
        """The word that `parsed` reads."""
        mode = "" if self.mode == _DEFAULT.mode else f"{self.mode}@"
        other = [
            f"{name}={_written(value)}"
            for name, value in asdict(self).items()
            if name not in ("qemu", "mode") and value != getattr(_DEFAULT, name)
        ]
        return ",".join([f"{mode}{self.qemu}", *other])


IN_MIB = ("memory", "bar", "data")
"""Fields that are sizes."""

_DEFAULT = Setting()
DEFAULTS = {name: _written(value) for name, value in asdict(_DEFAULT).items() if name not in ("qemu", "mode")}
"""What a word need not say."""
_KINDS = {field.name: type(getattr(_DEFAULT, field.name)) for field in fields(Setting)}


def parsed(word: str) -> Setting:
    """The setting that `word` describes. Raises UsageError with what could stand there."""
    first, *others = word.split(",")
    mode, at, qemu = first.rpartition("@")
    if at and mode not in MODES:
        raise UsageError(f"There is no mode {mode!r} in {word!r}; modes are {', '.join(MODES)}.")
    values: dict[str, Any] = {"mode": mode or _DEFAULT.mode, "qemu": qemu or _DEFAULT.qemu}
    for other in others:
        name, equals, value = other.partition("=")
        if name not in _KINDS or name in values or not equals:
            known = ", ".join(key for key in _KINDS if key not in ("qemu", "mode"))
            raise UsageError(f"{other!r} in {word!r} is no NAME=VALUE with a name of {known}.")
        values[name] = _read(name, value)
    return Setting(**values)


def _read(name: str, text: str) -> Any:
    kind = _KINDS[name]
    if kind is bool and text in ("yes", "no"):
        return text == "yes"
    if kind is int and text.isdecimal():
        return int(text)
    if kind is str:
        return text
    wanted = "yes or no" if kind is bool else "a number"
    raise UsageError(f"{name} takes {wanted}, not {text!r}.")


COMPARED = "settings"
"""The name of the experiment that --ab makes."""


@dataclass(frozen=True)
class Experiment:
    """Settings that are measured in turns: each block has every one of them once, in a shuffled order.

    The first setting is the one that the others are compared with. axis: the field of the settings that
    grows, or "" where they are different in kind. blocks: how many count; one more before them warms up.
    """

    name: str
    question: str
    settings: tuple[Setting, ...]
    blocks: int
    axis: str = ""

    def with_noise(self) -> "Experiment":
        """The same with the first setting a second time in each block: A/A, which tells the noise."""
        again = replace(self.settings[0], again=True)
        return replace(self, settings=(*self.settings, again))

    @property
    def noise(self) -> int | None:
        """The index of the setting that is the first one again."""
        return next((n for n, setting in enumerate(self.settings) if setting.again), None)


def growing(base: Setting, axis: str, values: Iterable[int]) -> tuple[Setting, ...]:
    """`base` with each of the values in the field `axis`."""
    changed = ({axis: value} for value in values)
    return tuple(replace(base, **change) for change in changed)  # type: ignore[arg-type]
