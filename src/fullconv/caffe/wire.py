"""Read and write the binary form of Caffe's messages. Road: caffe, between a file and a Message.

Protobuf 2 wire format. Numbers of blobs are counted, then go from the file straight into one array: reading takes
what they take as float32 and no more, however they are written. No length is believed that the file has not. Knows no
torch.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fullconv.base.errors import CaffeError
from fullconv.base.files import write_chunks
from fullconv.caffe.message import Message
from fullconv.caffe.schema import BY_NUMBER, ENUMS, MESSAGES, Field

_VARINT, _FIXED64, _LENGTH, _GROUP, _GROUP_END, _FIXED32 = range(6)
_WIRE = {"float": _FIXED32, "double": _FIXED64, "string": _LENGTH, "bytes": _LENGTH}
_DTYPES: dict[str, np.dtype[Any]] = {"float": np.dtype("<f4"), "double": np.dtype("<f8")}
_ARRAYS = ("BlobProto", "Datum")  # messages whose numbers are many
_MOST_BYTES = 2**31 - 1  # of one file, as protobuf has it
_MOST_FIELDS = 1 << 18  # of one file, numbers of blobs aside: GoogLeNet's has some 5,000
_HIGHEST = 2**29 - 1  # number of a field
_DEEPEST = 64  # groups in groups, of fields that nobody knows
_FEW, _AT_ONCE = 16, 1 << 18  # numbers that are looked at together: few first


Floats = NDArray[np.float32]


class _Broken(Exception):
    """What the file should have had, and what it has."""

    def __init__(self, must: str, found: str) -> None:
        self.must, self.found = must, found


def read_binary(path: Path, kind: str = "NetParameter", *, diffs: bool = False) -> Message:
    """Read a file.

    Args:
        kind: the message that it holds: "NetParameter", "SolverState", "BlobProto", "Datum".
        diffs: whether the blobs' gradients are read too.
    Raises: CaffeError that names the layer, if the file is cut short, is none of that kind, or cannot be opened.
    """
    try:
        size = path.stat().st_size
        if not path.is_file() or size > _MOST_BYTES:
            found = f"{path} has {size / 1e9:.1f} GB" if path.is_file() else f"{path} is a folder, pipe or device"
            raise CaffeError("a Caffe file is a file of less than 2.1 GB", found, "check the path")
        with path.open("rb") as file:
            return _Reader(file, size, str(path), diffs=diffs).whole(kind)
    except OSError as error:
        raise CaffeError("the file can be read", f"{path}: {error.strerror}", "check the path") from None


def parse_binary(data: bytes, kind: str = "NetParameter", *, of: str = "bytes") -> Message:
    """Read from memory; as `read_binary`."""
    return _Reader(io.BytesIO(data), len(data), of, diffs=True).whole(kind)


def write_binary(message: Message, path: Path) -> None:
    """Write a message whole or not at all: fields by number, lists of numbers packed where Caffe packs them.

    Raises: DiskFull, Unwritable.
    """
    write_chunks(path, chunks_of(message)[0])


class _Reader:
    def __init__(self, file: io.BufferedIOBase, size: int, of: str, *, diffs: bool) -> None:
        self.file, self.size, self.of, self.diffs = file, size, of, diffs
        self.place = 0
        self.fields = 0

    def whole(self, kind: str) -> Message:
        try:
            return self.message(kind, self.size, self.size)
        except _Broken as broken:
            raise CaffeError(
                broken.must, f"{self.of}: {broken.found}", "get the file again, whole; compare its size"
            ) from None

    def message(self, kind: str, end: int, length: int) -> Message:
        """One of `length` bytes; if there are less, what is there is read, so that the error names its layer."""
        found = Message(kind)
        begin, end = self.place, min(end, self.place + length)
        try:
            while self.place < end:
                self._field(found, end)
            self._has(begin + length - end, end)
        except _Broken as broken:
            name = found.name if "name" in MESSAGES[kind] and found.has("name") else None
            raise _Broken(broken.must, f"{kind}{f' {name!r}' if name else ''}: {broken.found}") from None
        return found

    def _field(self, into: Message, end: int) -> None:
        self._counted(1)
        begin = self.place
        tag = self._varint(end)
        number, wire = tag >> 3, tag & 7
        field = BY_NUMBER[into.kind].get(number)
        if field is None:
            self._skip(number, wire, end, 0)
        elif field.kind in _DTYPES and field.repeated and wire in (_LENGTH, _WIRE[field.kind]):
            if field.name not in into.names() and (self.diffs or "diff" not in field.name):
                self._numbers(into, field, begin, end)
                self._to(begin)
                self._varint(end)
            self._run(field, wire, tag, end)
        elif wire == _LENGTH and field.repeated and field.kind not in ("string", "bytes") and not field.is_message:
            stop = self._stop(end)
            while self.place < stop:
                self._counted(1)
                _keep(into, field, self._number(field, _VARINT, stop))
        elif wire != _WIRE.get(field.kind, _LENGTH if field.is_message else _VARINT):
            self._skip(number, wire, end, 0)
        elif field.is_message:
            one = self.message(field.kind, end, self._varint(end))
            if field.repeated or not into.has(field.name):
                _keep(into, field, one)
            else:
                getattr(into, field.name).merge(one)
        elif wire == _LENGTH:
            length = self._stop(end) - self.place
            if field.kind == "string" and length > field.longest:
                raise _Broken(f"'{field.name}' has at most {field.longest} bytes", f"{length} bytes")
            text = self._bytes(length)
            if field.kind == "string" and b"\0" in text:
                raise _Broken(f"'{field.name}' has no zero bytes", repr(text[:100]))
            _keep(into, field, text if field.kind == "bytes" else text.decode("utf-8", "replace"))
        else:
            _keep(into, field, self._number(field, wire, end))

    def _number(self, field: Field, wire: int, end: int) -> Any:
        if wire != _VARINT:
            self._has(4 if wire == _FIXED32 else 8, end)
            return struct.unpack("<f" if wire == _FIXED32 else "<d", self._bytes(4 if wire == _FIXED32 else 8))[0]
        value = self._varint(end)
        if field.kind == "bool":
            return value != 0
        if field.kind == "uint32":
            return value & 0xFFFFFFFF
        bits = 64 if field.kind == "int64" else 32
        value &= (1 << bits) - 1
        value -= (value >> (bits - 1)) << bits
        if field.is_enum:
            return next((name for name, one in ENUMS[field.kind].items() if one == value), None)
        return value

    # ---- numbers of blobs ----

    def _numbers(self, into: Message, field: Field, begin: int, end: int) -> None:
        """All numbers of a field, whose first run begins at `begin`, as float32."""
        count = self._walk(field, begin, end, None)
        if into.kind not in _ARRAYS:
            self._counted(count)
        numbers = np.empty(count, np.float32)
        self._walk(field, begin, end, numbers)
        setattr(into, field.name, numbers if into.kind in _ARRAYS else numbers.tolist())

    def _walk(self, field: Field, begin: int, end: int, into: Floats | None) -> int:
        """Step over the rest of a message, with the numbers of a field into an array; how many they are."""
        self._to(begin)
        before = self.fields  # what is stepped over is counted, but not for good
        found = 0
        while self.place < end:
            self._counted(1)
            tag = self._varint(end)
            number, wire = tag >> 3, tag & 7
            if number == field.number and wire in (_LENGTH, _WIRE[field.kind]):
                found += self._run(field, wire, tag, end, None if into is None else into[found:])
            else:
                self._skip(number, wire, end, 0)
        self.fields = before
        return found

    def _run(self, field: Field, wire: int, tag: int, end: int, into: Floats | None = None) -> int:
        """Step over packed numbers, or over one that is not and those like it that follow; how many they are."""
        dtype = _DTYPES[field.kind]
        if wire == _LENGTH:
            length = self._stop(end) - self.place
            if length % dtype.itemsize:
                raise _Broken(f"numbers of {dtype.itemsize} bytes", f"{field.name} has {length} bytes")
            if into is None:
                self._over(length)
            else:
                self._packed(into[: length // dtype.itemsize], dtype)
            return length // dtype.itemsize
        mark = np.frombuffer(_varint_bytes(tag), np.uint8)
        step = len(mark) + dtype.itemsize
        self._has(dtype.itemsize, end)
        first = np.frombuffer(self._bytes(dtype.itemsize), dtype)
        if into is not None:
            _cast(into[:1], first)
        done, ahead = 1, _FEW
        while (left := min((end - self.place) // step, ahead)) > 0:
            start = self.place
            rows = np.frombuffer(self._bytes(left * step), np.uint8).reshape(left, step)
            other = np.flatnonzero((rows[:, : len(mark)] != mark).any(1))
            same = int(other[0]) if len(other) else left
            if into is not None:
                _cast(into[done : done + same], np.ascontiguousarray(rows[:same, len(mark) :]).view(dtype).ravel())
            done += same
            self._to(start + same * step)
            if same < left:
                break
            ahead = min(4 * ahead, _AT_ONCE)
        return done

    def _packed(self, into: Floats, dtype: np.dtype[Any]) -> None:
        if dtype == into.dtype:
            self._into(into)
            return
        part = np.empty(min(len(into), _AT_ONCE), dtype)
        for first in range(0, len(into), _AT_ONCE):
            some = part[: len(into) - first]
            self._into(some)
            _cast(into[first : first + len(some)], some)

    # ---- bytes ----

    def _varint(self, end: int) -> int:
        value = 0
        for shift in range(0, 70, 7):
            self._has(1, end)
            byte = self._bytes(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & 0xFFFFFFFFFFFFFFFF
        raise _Broken("a number has at most 10 bytes", f"a longer one before byte {self.place}")

    def _stop(self, end: int) -> int:
        """Where what is `length` bytes long ends."""
        length = self._varint(end)
        self._has(length, end)
        return self.place + length

    def _has(self, length: int, end: int) -> None:
        if length > end - self.place:
            raise _Broken(
                "the file has all that it announces",
                f"{length} bytes are announced at byte {self.place}, {end - self.place} are there",
            )

    def _bytes(self, length: int) -> bytes:
        found = self.file.read(length)
        if len(found) != length:
            raise _Broken("the file has all its bytes", f"it ends at byte {self.place + len(found)}")
        self.place += length
        return found

    def _into(self, numbers: NDArray[Any]) -> None:
        buffer = numbers.view(np.uint8).data
        done = 0
        while done < len(buffer):
            got = self.file.readinto(buffer[done:])
            if not got:
                raise _Broken("the file has all its bytes", f"it ends at byte {self.place + done}")
            done += got
        self.place += done

    def _over(self, length: int) -> None:
        self._to(self.place + length)

    def _to(self, place: int) -> None:
        self.place = place
        self.file.seek(place)

    def _counted(self, fields: int) -> None:
        self.fields += fields
        if self.fields > _MOST_FIELDS:
            raise _Broken(f"a file has at most {_MOST_FIELDS} fields", "it has more")

    def _skip(self, number: int, wire: int, end: int, depth: int) -> None:
        """Step over a field that nobody knows."""
        if not 0 < number <= _HIGHEST or wire > _FIXED32 or wire == _GROUP_END:
            raise _Broken(
                "a Caffe file is made of protobuf fields",
                f"byte {self.place - 1} begins none; this is another kind of file",
            )
        if wire == _VARINT:
            self._varint(end)
        elif wire == _LENGTH:
            self._over(self._stop(end) - self.place)
        elif wire == _GROUP:
            if depth == _DEEPEST:
                raise _Broken(f"groups lie at most {_DEEPEST} deep", "they lie deeper")
            while (tag := self._varint(end)) & 7 != _GROUP_END:
                self._counted(1)
                self._skip(tag >> 3, tag & 7, end, depth + 1)
            if tag >> 3 != number:
                raise _Broken(f"group {number} ends as such", f"group {tag >> 3} ends before byte {self.place}")
        else:
            length = 4 if wire == _FIXED32 else 8
            self._has(length, end)
            self._over(length)


def _cast(into: Floats, numbers: NDArray[Any]) -> None:
    with np.errstate(over="ignore"):  # what is beyond float32 becomes infinity, as in Caffe
        into[:] = numbers


def _keep(into: Message, field: Field, value: Any) -> None:
    if value is None:  # an enum's number that nobody knows
        return
    if field.repeated:
        into.add(field.name, value)
    else:
        setattr(into, field.name, value)


# ---- writing --------------------------------------------------------------------------------------------------------

_PACKED = {("BlobShape", "dim"), *(("BlobProto", name) for name in ("data", "diff", "double_data", "double_diff"))}
Buffer = bytes | memoryview


def chunks_of(message: Message) -> tuple[list[Buffer], int]:
    """What a message is in bytes, in pieces that share the blobs' memory, and how many bytes that is."""
    chunks: list[Buffer] = []
    fields = sorted((MESSAGES[message.kind][name] for name in message.names()), key=lambda one: one.number)
    for field in fields:
        value = getattr(message, field.name)
        if (message.kind, field.name) in _PACKED:
            if len(value):
                chunks += _with_length(field, [_packed(field, value)])
        else:
            for one in value if field.repeated else [value]:
                chunks += _field_chunks(field, one)
    return chunks, sum(map(len, chunks))


def _packed(field: Field, value: Any) -> Buffer:
    if field.kind in _DTYPES:
        numbers: NDArray[Any] = np.ascontiguousarray(value, _DTYPES[field.kind])
        return numbers.ravel().data.cast("B")
    return b"".join(_varint_bytes(int(one)) for one in value)


def _field_chunks(field: Field, value: Any) -> Iterator[Buffer]:
    if field.is_message:
        chunks, length = chunks_of(value)
        yield _varint_bytes(field.number << 3 | _LENGTH) + _varint_bytes(length)
        yield from chunks
    elif field.kind in ("string", "bytes"):
        yield from _with_length(field, [value if isinstance(value, bytes) else value.encode()])
    elif field.kind in _DTYPES:
        yield _varint_bytes(field.number << 3 | _WIRE[field.kind]) + np.asarray(value, _DTYPES[field.kind]).tobytes()
    else:
        number = ENUMS[field.kind][value] if field.is_enum else int(value)
        yield _varint_bytes(field.number << 3 | _VARINT) + _varint_bytes(number)


def _with_length(field: Field, chunks: list[Buffer]) -> list[Buffer]:
    return [_varint_bytes(field.number << 3 | _LENGTH) + _varint_bytes(sum(map(len, chunks))), *chunks]


def _varint_bytes(number: int) -> bytes:
    number &= 0xFFFFFFFFFFFFFFFF
    found = bytearray()
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)
