# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs that answer like an old or odd QEMU, for tests of how we judge what a user gives us as QEMU."""

import json
import sys
from pathlib import Path


def script(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def monitor(path: Path, answers: dict[str, object]) -> Path:
    """A program that greets like QEMU and gives these answers; an old or odd QEMU, as far as we ask it."""
    return script(
        path,
        f"""#!{sys.executable}
import json, sys
answers = json.loads({json.dumps(answers)!r})
print(json.dumps({{"QMP": {{}}}}), flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    answer = answers.get(asked["execute"])
    said = {{"return": answer}} if answer is not None else {{"error": {{}}}}
    print(json.dumps({{**said, "id": asked["id"]}}), flush=True)
""",
    )


def answers(major: int, minor: int, modes: list[str]) -> dict[str, object]:
    return {
        "query-version": {"qemu": {"major": major, "minor": minor, "micro": 0}, "package": ""},
        "query-target": {"arch": "x86_64"},
        "query-qmp-schema": [
            {"name": "migrate-set-parameters", "meta-type": "command", "arg-type": "1"},
            {"name": "1", "meta-type": "object", "members": [{"name": "mode", "type": "2"}]},
            {"name": "2", "meta-type": "enum", "values": modes},
        ],
        "qom-list-types": [{"name": "vfio-pci"}],
    }
