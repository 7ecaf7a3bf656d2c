"""The FCN authors' trained weights: where they are, what they hold, how they are fetched. Road: caffe, beside weights.

In: a name, that of the net's folder in shelhamer/fcn.berkeleyvision.org (commit 1305c737); the addresses are those of
its `caffemodel-url` files. Out: a .caffemodel that is whole and has that net's layers. No published checksum is known.
"""

from __future__ import annotations

import hashlib
import http.client
import math
import os
import re
import shutil
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fullconv.base.errors import DiskFull, FullconvError, Unwritable, WeightsError
from fullconv.base.files import write_errors_said
from fullconv.caffe.weights import read_weights

Shape = tuple[int, ...]

TIMEOUT_SECONDS = 30.0
_CHUNK = 1_000_000  # bytes; one record each

# A layer and the shape of its weights; + where it has a bias too, a number an output.
_VGG = """
    conv1_1 64x3x3x3+, conv1_2 64x64x3x3+, conv2_1 128x64x3x3+, conv2_2 128x128x3x3+,
    conv3_1 256x128x3x3+, conv3_2 256x256x3x3+, conv3_3 256x256x3x3+,
    conv4_1 512x256x3x3+, conv4_2 512x512x3x3+, conv4_3 512x512x3x3+,
    conv5_1 512x512x3x3+, conv5_2 512x512x3x3+, conv5_3 512x512x3x3+, fc6 4096x512x7x7+, fc7 4096x4096x1x1+
"""
_ALEXNET = """
    conv1 96x3x11x11+, conv2 256x48x5x5+, conv3 384x256x3x3+, conv4 384x192x3x3+, conv5 256x192x3x3+,
    fc6 4096x256x6x6+, fc7 4096x4096x1x1+
"""
# What stands on top of it, for K classes.
_32S = "score_fr Kx4096x1x1+, upscore KxKx64x64"
_16S = "score_fr Kx4096x1x1+, upscore2 KxKx4x4, score_pool4 Kx512x1x1+, upscore16 KxKx32x32"
_8S = """
    score_fr Kx4096x1x1+, upscore2 KxKx4x4, score_pool4 Kx512x1x1+, upscore_pool4 KxKx4x4,
    score_pool3 Kx256x1x1+, upscore8 KxKx16x16
"""
_AT_ONCE = f"{_8S}, scale_pool4 512, scale_pool3 256"

Layers = Mapping[str, tuple[Shape, ...]]


def _layers(text: str, *, classes: int = 0, end: str = "") -> Layers:
    """Layer -> shapes of its blobs; `end` stands behind each name."""
    found: dict[str, tuple[Shape, ...]] = {}
    for name, sizes, bias in re.findall(r"(\w+) ([\dxK]+)(\+?)", text):
        shape = tuple(classes if size == "K" else int(size) for size in sizes.split("x"))
        found[name + end] = (shape, shape[:1]) if bias else (shape,)
    return found


def _sift_flow(head: str) -> Layers:
    """33 classes of things and 3 of geometry, on one body."""
    return {**_layers(_VGG), **_layers(head, classes=33, end="_sem"), **_layers(head, classes=3, end="_geo")}


def _two_streams() -> Layers:
    """Colour and HHA, each a net of its own up to its scores, which are summed."""
    score, upscore = _32S.split(",")
    streams = [_layers(f"{_VGG}, {score}", classes=40, end=end) for end in ("color", "hha")]
    return {**streams[0], **streams[1], **_layers(upscore, classes=40)}


@dataclass(frozen=True)
class Published:
    """Trained weights.

    Args:
        address: where their authors put them.
        layers: name -> the shapes of its blobs, of each layer that has some.
    """

    address: str
    layers: Layers

    @property
    def parameters(self) -> int:
        return sum(math.prod(shape) for shapes in self.layers.values() for shape in shapes)


def _at(file: str, layers: Layers) -> Published:
    return Published(f"http://dl.caffe.berkeleyvision.org/{file}.caffemodel", layers)


def _on_vgg(head: str, classes: int) -> Layers:
    return _layers(f"{_VGG}, {head}", classes=classes)


PUBLISHED: Mapping[str, Published] = {
    "voc-fcn8s": _at("fcn8s-heavy-pascal", _on_vgg(_8S, 21)),
    "voc-fcn8s-atonce": _at("fcn8s-atonce-pascal", _on_vgg(_AT_ONCE, 21)),
    "voc-fcn16s": _at("fcn16s-heavy-pascal", _on_vgg(_16S, 21)),
    "voc-fcn32s": _at("fcn32s-heavy-pascal", _on_vgg(_32S, 21)),
    "voc-fcn-alexnet": _at(
        "fcn-alexnet-pascal", _layers(f"{_ALEXNET}, score_fr Kx4096x1x1+, upscore KxKx63x63", classes=21)
    ),
    "nyud-fcn32s-color": _at("nyud-fcn32s-color-heavy", _on_vgg(_32S, 40)),
    "nyud-fcn32s-hha": _at("nyud-fcn32s-hha-heavy", _on_vgg(_32S, 40)),
    "nyud-fcn32s-color-hha": _at("nyud-fcn32s-color-hha-heavy", _two_streams()),
    "pascalcontext-fcn8s": _at("pascalcontext-fcn8s-heavy", _on_vgg(_8S, 60)),
    "pascalcontext-fcn16s": _at("pascalcontext-fcn16s-heavy", _on_vgg(_16S, 60)),
    "pascalcontext-fcn32s": _at("pascalcontext-fcn32s-heavy", _on_vgg(_32S, 60)),
    "siftflow-fcn8s": _at("siftflow-fcn8s-heavy", _sift_flow(_8S)),
    "siftflow-fcn16s": _at("siftflow-fcn16s-heavy", _sift_flow(_16S)),
    "siftflow-fcn32s": _at("siftflow-fcn32s-heavy", _sift_flow(_32S)),
}
"""Name -> weights. nyud-fcn32s-color-d is not among them: its folder has no address."""


# ---- download -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """How much of a file is there.

    Args:
        there, total: bytes; None where the server does not say.
        chunks: how many records the download yields in all, as far as that is known.
    """

    there: int
    total: int | None
    chunks: int


def part_of(path: Path) -> Path:
    """Where what comes is kept until it is whole."""
    return path.with_name(f"{path.name}.part")


def download(address: str, path: Path, *, timeout: float = TIMEOUT_SECONDS) -> Iterator[Part]:
    """Get a file into `part_of(path)`, a record a megabyte; go on behind what is there if the server can.

    Raises: WeightsError if the server cannot be reached, has no such file, or stops before the end; DiskFull;
        Unwritable. What came until then is kept, and the next call goes on.
    """
    part = part_of(path)
    if path.is_dir() or part.is_dir():
        raise Unwritable(
            "weights are written to a file", f"{path if path.is_dir() else part} is a folder", "--out FILE"
        )
    with write_errors_said(path, 0):
        path.parent.mkdir(parents=True, exist_ok=True)
    there = part.stat().st_size if part.exists() else 0
    total, answered = None, False
    try:
        response, there, total = _asked(address, there, timeout)
        answered = True
        if response is None:
            return
        with response:
            _room(path, there, total)
            chunks = 0 if total is None else -(-(total - there) // _CHUNK)
            with _opened(part, "ab" if there else "wb", total) as file:
                told = there
                while data := response.read1(_CHUNK):  # what has come, so that none of it is lost in a cut
                    _write(file, data, part, total)
                    there += len(data)
                    if there - told >= _CHUNK:
                        told += _CHUNK
                        yield Part(there, total, chunks)
                if there > told:
                    yield Part(there, total, chunks)
    except urllib.error.HTTPError as error:
        with error:
            raise _refused(error, address, path) from None
    except (OSError, http.client.HTTPException) as error:
        if not answered:
            host = urlsplit(address).hostname
            raise WeightsError(
                f"{host} can be reached", _said(error), f"check the network, then {_again(path)}"
            ) from None
        raise _stopped(_said(error), address, path, there, total) from None
    if total is not None and there != total:
        raise _stopped("the connection ended", address, path, there, total)


def _asked(address: str, first: int, timeout: float) -> tuple[Any, int, int | None]:
    """The server's answer, the byte it begins with, and the file's size; no answer where all bytes are there."""
    headers = {"User-Agent": "fullconv", "Accept-Encoding": "identity"}
    if first:
        headers["Range"] = f"bytes={first}-"
    try:
        response = urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not first:
            raise
        with error:
            _, total = _range(error.headers.get("Content-Range"))
        return (None, first, total) if total == first else _asked(address, 0, timeout)
    if response.status == http.HTTPStatus.PARTIAL_CONTENT:
        begin, total = _range(response.headers.get("Content-Range"))
        if first and begin == first:
            return response, first, total
        response.close()
        if first:
            return _asked(address, 0, timeout)
        raise http.client.HTTPException("the server sends a part that nobody asked for")
    length = response.headers.get("Content-Length", "")
    return response, 0, int(length) if re.fullmatch(r"\d{1,18}", length, re.ASCII) else None


def _range(text: str | None) -> tuple[int | None, int | None]:
    """First byte and size of the whole file: "bytes 100-199/200" -> 100, 200."""
    found = re.fullmatch(r"bytes (?:(\d{1,18})-\d{1,18}|\*)/(?:(\d{1,18})|\*)", text or "", re.ASCII)
    if found is None:
        return None, None
    begin, total = (None if one is None else int(one) for one in found.groups())
    return begin, total


def _opened(part: Path, mode: str, total: int | None) -> Any:
    with write_errors_said(part, total or 0):
        return part.open(mode, buffering=0)  # what was written is there, whatever comes next


def _write(file: Any, data: bytes, part: Path, total: int | None) -> None:
    left = memoryview(data)
    with write_errors_said(part, total or 0):
        while left:
            left = left[file.write(left) :]


def _room(path: Path, there: int, total: int | None) -> None:
    free = shutil.disk_usage(path.parent).free
    if total is not None and total - there > free:
        raise DiskFull(
            f"{path} needs {(total - there) / 1e6:.1f} MB of free space",
            f"the disk that holds {path.parent} has {free / 1e6:.1f} MB",
            "free some space, or --out on another disk; the same command again goes on where it was",
        )


def _said(error: Exception) -> str:
    """What the system says, without its numbers."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, TimeoutError):
        return "nothing came for some time"
    if isinstance(reason, http.client.IncompleteRead):
        return "the connection ended"
    if isinstance(reason, socket.gaierror):
        return f"its name is not known here ({reason.strerror})"
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    return str(reason) or type(reason).__name__


def _again(path: Path) -> str:
    part = part_of(path)
    kept = part.exists() and part.stat().st_size
    return f"the same command again: it goes on behind {part}" if kept else "the same command again"


def _refused(error: urllib.error.HTTPError, address: str, path: Path) -> WeightsError:
    found = f"{address}: {error.code} {error.reason}"
    if error.code >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
        return WeightsError("the server gives the file", found, f"later, {_again(path)}")
    return WeightsError(
        "the server has the file", found, "get it from elsewhere; fullconv caffe convert takes any file"
    )


def _stopped(reason: str, address: str, path: Path, there: int, total: int | None) -> WeightsError:
    of = "" if total is None else f" of {total}"
    found = f"{reason} after {there}{of} bytes"
    return WeightsError(f"{urlsplit(address).hostname} sends the whole file", found, _again(path))


# ---- proof ----------------------------------------------------------------------------------------------------------


def keep(path: Path, weights: Published, *, sha256: str | None = None) -> str:
    """Check what was downloaded, and give it its name.

    Args:
        sha256: hexadecimal; what the file's sum must be.
    Returns: its sha256.
    Raises: WeightsError, CaffeError if it is another file; it is kept as FILE.wrong, and the next download begins anew.
    """
    part = part_of(path)
    try:
        found = proved(part, weights, sha256=sha256)
    except FullconvError as error:
        wrong = path.with_name(f"{path.name}.wrong")
        os.replace(part, wrong)
        raise type(error)(
            error.must, error.found, f"look into {wrong}, or get the file anew by the same command"
        ) from None
    os.replace(part, path)
    return found


def proved(path: Path, weights: Published, *, sha256: str | None = None) -> str:
    """The sha256 of a file that has all layers of a net, with blobs of the right shapes.

    Raises: WeightsError, CaffeError if it has not, or another sum than it must have.
    """
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 is not None and found != sha256.lower():
        raise WeightsError(
            f"{path.name} has the sha256 {sha256.lower()}",
            found,
            f"move {path} away and fetch it anew, or check the sum",
        )
    there = dict(reversed(read_weights(path)))
    for name, shapes in weights.layers.items():
        blobs = there.get(name, [])
        if len(blobs) != len(shapes) or not all(blob.fits(shape) for blob, shape in zip(blobs, shapes, strict=True)):
            raise WeightsError(
                f"layer '{name}' has blobs of {_spoken(shapes)}",
                f"{path.name} has " + (_spoken([blob.data.shape for blob in blobs]) if blobs else "no such layer"),
                f"move {path} away, then fetch it anew",
            )
    return found


def _spoken(shapes: Any) -> str:
    return " and ".join("x".join(map(str, shape)) or "one number" for shape in shapes)
