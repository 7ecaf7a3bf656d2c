"""The journal: JSON lines, one a step or event, written as training goes. Road: base. Knows no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fullconv.base.files import write_errors_said, write_text


def append_journal(path: Path, record: dict[str, Any]) -> None:
    """Append one record as a line. Raises: DiskFull when there is no space, Unwritable; the lines before stay."""
    line = json.dumps(record, ensure_ascii=False) + "\n"
    with write_errors_said(path, len(line)):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a", encoding="utf-8") as file:
            file.write(line)


def read_journal(path: Path) -> list[dict[str, Any]]:
    """All whole records; a last line cut off by a kill is left out."""
    if not path.exists():
        return []
    records = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


def cut_journal(path: Path, *, after_step: int) -> None:
    """Drop the records of steps later than `after_step`: a resumed run writes them again."""
    kept = [record for record in read_journal(path) if record.get("step", 0) <= after_step]
    write_text(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in kept))
