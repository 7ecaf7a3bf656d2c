"""HDF5 files, which Caffe keeps data and, if asked, weights in. Road: caffe, beside the wire form. Needs h5py."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fullconv.base.errors import WeightsError

_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def is_hdf5(path: Path) -> bool:
    """Whether a file is HDF5, by its first bytes."""
    with path.open("rb") as file:
        return file.read(len(_SIGNATURE)) == _SIGNATURE


@contextmanager
def opened_hdf5(path: Path, mode: str) -> Iterator[Any]:
    """An HDF5 file. Raises: WeightsError if h5py is not there or the file is broken."""
    try:
        import h5py
    except ImportError:
        raise WeightsError(
            "HDF5 files are read and written by h5py",
            f"{path} is HDF5, and h5py is not installed",
            'pip install "fullconv[hdf5]"',
        ) from None
    try:
        with h5py.File(path, mode) as file:
            yield file
    except (OSError, ValueError, KeyError) as error:
        raise WeightsError(
            "the HDF5 file is whole", f"{path}: {error}", "get the file again, whole; compare its size"
        ) from None
