"""HDF5 files, which Caffe keeps data and, if asked, weights in. Road: caffe, beside the wire form. Needs h5py.

Knows no torch.
"""

from __future__ import annotations

import errno
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fullconv.base.errors import UsageError, WeightsError
from fullconv.base.files import write_chunks

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_BROKEN = (
    *(OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, RuntimeError),  # h5py's, of one file
    *(OverflowError, MemoryError),
)
_TIGHTEST = 16  # how often deflate makes numbers smaller, at most: of weights it is little above 1
_SMALL = 1 << 24  # bytes that may be fill values, of which nothing is stored
_AGAIN = "get the file again, whole; compare its size"


def is_hdf5(path: Path) -> bool:
    """Whether a file is HDF5, by its first bytes. Raises: OSError, of what is no file too."""
    if path.exists() and not path.is_file():  # opening a pipe would wait for who writes it
        raise OSError(errno.EINVAL, "a folder, pipe or device, not a file")
    with path.open("rb") as file:
        return file.read(len(_SIGNATURE)) == _SIGNATURE


@contextmanager
def opened_hdf5(path: Path) -> Iterator[Any]:
    """An HDF5 file to read, and nothing else to do while it is open.

    Raises: UsageError if h5py is not there; WeightsError if the file is broken, or not as Caffe writes it.
    """
    h5py = _h5py(path)
    try:
        with h5py.File(path, "r") as file:
            yield file
    except _BROKEN as error:
        raise WeightsError("the HDF5 file is whole, and as Caffe writes it", f"{path}: {error}", _AGAIN) from None


@contextmanager
def written_hdf5(path: Path) -> Iterator[Any]:
    """An HDF5 file to fill, which appears whole or not at all.

    Raises: UsageError if h5py is not there; DiskFull, Unwritable.
    """
    h5py = _h5py(path)
    whole = io.BytesIO()  # in memory first: of a full disk h5py tells in too many ways
    with h5py.File(whole, "w") as file:
        yield file
    write_chunks(path, [whole.getbuffer()])


def numbers_of(data_set: Any, *, of: str) -> NDArray[np.float32]:
    """All numbers of a data set, as float32.

    Raises: WeightsError if it has none, or says that it has more than can be in what is stored.
    """
    if data_set.shape is None or data_set.dtype.kind not in "biuf" or data_set.external or data_set.is_virtual:
        raise WeightsError("a data set of the HDF5 file has numbers of its own", f"{of} has none", _AGAIN)
    said, stored = data_set.size * data_set.dtype.itemsize, data_set.id.get_storage_size()
    if said > max(_SMALL, stored * _TIGHTEST):
        raise WeightsError("the HDF5 file has all numbers that it announces", f"{of}: {said} bytes in {stored}", _AGAIN)
    return np.asarray(data_set, np.float32)


def most_bytes(path: Path) -> int:
    """How many bytes of numbers a file may say that it has."""
    return _SMALL + _TIGHTEST * path.stat().st_size


def _h5py(path: Path) -> Any:
    try:
        import h5py
    except ImportError:
        raise UsageError(
            "HDF5 files are read and written with the package h5py",
            f"{path} is HDF5, and h5py is not installed",
            "pip install 'fullconv[hdf5]'",
        ) from None
    return h5py
