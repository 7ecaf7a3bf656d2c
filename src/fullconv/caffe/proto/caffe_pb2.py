"""Messages by their names in pycaffe, read from bytes. Road: caffe, beside io. Knows no torch.

blob = caffe.proto.caffe_pb2.BlobProto()
blob.ParseFromString(open("mean.binaryproto", "rb").read())
mean = caffe.io.blobproto_to_array(blob)[0]
"""

from __future__ import annotations

from typing import Any, ClassVar

from fullconv.caffe.message import Message
from fullconv.caffe.wire import chunks_of, parse_binary


class _Parsed(Message):
    """A message that bytes are read into. Enums are names, numbers of blobs are NumPy arrays.

    Args:
        fields: what is set.
    """

    __slots__ = ()
    KIND: ClassVar[str]

    def __init__(self, **fields: Any) -> None:
        super().__init__(self.KIND, **fields)

    def ParseFromString(self, data: bytes) -> int:
        """Take the fields that bytes hold, and no others; returns how many bytes. Raises: CaffeError."""
        found = parse_binary(bytes(data), self.KIND)
        for name in self.names():
            delattr(self, name)
        self.merge(found)
        return len(data)

    def SerializeToString(self) -> bytes:
        """Its bytes."""
        return b"".join(chunks_of(self)[0])

    def HasField(self, name: str) -> bool:
        """Whether a field is there."""
        return self.has(name)


class BlobProto(_Parsed):
    """Numbers and their shape, as in mean.binaryproto."""

    __slots__ = ()
    KIND = "BlobProto"


class Datum(_Parsed):
    """A photo of a data base, and its label."""

    __slots__ = ()
    KIND = "Datum"


class NetParameter(_Parsed):
    """A net, as in a .caffemodel: what `layer` and `layers` hold is what the file holds."""

    __slots__ = ()
    KIND = "NetParameter"


class SolverParameter(_Parsed):
    """A solver."""

    __slots__ = ()
    KIND = "SolverParameter"
