"""Files that appear whole or not at all, and names for contents. Road: base. Knows no torch."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fullconv.base.errors import DiskFull, Unwritable

WRONG_PLACE = (NotADirectoryError, IsADirectoryError, FileExistsError, PermissionError)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` so that `path` holds either what it held before or all of `data`; as `write_chunks`."""
    write_chunks(path, [data])


def write_chunks(path: Path, chunks: Sequence[bytes | memoryview]) -> None:
    """Write chunks one after another, whole or not at all.

    Written beside, flushed, renamed. Raises: DiskFull when there is no space, Unwritable when the folder cannot
    be made or written to; what was there stays.
    """
    beside = path.with_name(f".{path.name}.part")  # one name: what a kill leaves behind is written over
    with write_errors_said(path, sum(map(len, chunks))):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(beside, "wb") as file:
                file.writelines(chunks)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
        except OSError:
            beside.unlink(missing_ok=True)
            raise


@contextmanager
def write_errors_said(path: Path, size: int) -> Iterator[None]:
    """Turn what the system says while `size` bytes go to `path` into DiskFull, or Unwritable (a wrong place)."""
    try:
        yield
    except WRONG_PLACE as error:
        raise Unwritable(
            f"{path.name} lies in a folder that can be made and written to",
            f"{path}: {error.strerror or error}",
            "another folder",
        ) from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFull(
            f"{path} needs {size / 1e6:.1f} MB of free space",
            f"the disk that holds {path.parent} is full; what was finished before is kept",
            "free some space, then give the same command again: it goes on from there",
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: Path, document: Any) -> None:
    """Write one JSON document, indented, keys in the order given; no NaN or infinity."""
    write_text(path, json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read one JSON document."""
    return json.loads(path.read_text(encoding="utf-8"))


def content_hash(*parts: Path | bytes | str | int | float | dict[str, Any] | list[Any] | None) -> str:
    """Name contents: sha256 over files (by their bytes), texts, numbers and JSON documents, in order."""
    digest = hashlib.sha256()
    for part in parts:
        data = (
            part.read_bytes()
            if isinstance(part, Path)
            else part
            if isinstance(part, bytes)
            else json.dumps(part, sort_keys=True, default=str).encode()
        )
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()
