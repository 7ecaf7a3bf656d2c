"""The errors a person can meet. Road: base, below everything. Knows no torch, no files.

FullconvError                the work could not be done (exit code 1)
├── UsageError               the command was wrong (exit code 2)
│   └── Unwritable           a file cannot be written where it was asked for
├── DiskFull                 a file could not be written for want of space
├── DataError                the samples
│   ├── LayoutUnknown        the folder is none of the known layouts
│   ├── PairingError         photos and label maps do not belong together
│   ├── LabelSpaceError      the classes cannot be told
│   ├── UnknownLabel         a label map holds an id or colour outside the label space
│   ├── SizeMismatch         photo and label map differ in size
│   ├── UnreadableImage      a photo or label map cannot be decoded
│   ├── AnnotationError      an annotation file cannot be read, or says what cannot be drawn
│   └── SplitError           the splits cannot be used
├── NetError                 the networks
│   ├── GeometryError        stride, offset or size do not fit
│   ├── SurgeryError         a classifier cannot be made fully convolutional
│   ├── WeightsError         weights cannot be had or do not fit
│   ├── BundleError          a bundle cannot be read
│   └── CaffeError           a Caffe file cannot be read, or its net cannot be built
└── TrainingError            training stopped: not a number, flat, or one class everywhere
"""

from __future__ import annotations


class FullconvError(Exception):
    """What must hold, what was found, what to type.

    Args:
        must: what must hold, as a statement.
        found: what was found, with the file or layer.
        try_: what to type or do next.
    """

    exit_code = 1

    def __init__(self, must: str, found: str, try_: str) -> None:
        super().__init__(must, found, try_)
        self.must = must
        self.found = found
        self.try_ = try_

    def __str__(self) -> str:
        return f"error: {one_line(self.must)}\nfound: {one_line(self.found)}\ntry:   {one_line(self.try_)}"


def one_line(text: str) -> str:
    return " ".join(text.split())


class UsageError(FullconvError):
    """The command or call was wrong."""

    exit_code = 2


class Unwritable(UsageError):
    """A file cannot be written where it was asked for."""


class DiskFull(FullconvError):
    """A file could not be written for want of space."""


class DataError(FullconvError):
    """The samples cannot be used as they are."""


class LayoutUnknown(DataError):
    """The folder is none of the known layouts."""


class PairingError(DataError):
    """Photos and label maps do not belong together."""


class LabelSpaceError(DataError):
    """The classes cannot be told from what is there."""


class UnknownLabel(DataError):
    """A label map holds an id or colour outside the label space."""


class SizeMismatch(DataError):
    """Two things that must have one size differ."""


class UnreadableImage(DataError):
    """A photo or label map cannot be decoded."""


class AnnotationError(DataError):
    """An annotation file cannot be read, or says what cannot be drawn."""


class SplitError(DataError):
    """The splits cannot be used."""


class NetError(FullconvError):
    """A network cannot be built, converted or read."""


class GeometryError(NetError):
    """Strides, offsets or sizes do not fit together."""


class SurgeryError(NetError):
    """A classifier cannot be made fully convolutional."""


class WeightsError(NetError):
    """Weights cannot be had, or do not fit the network."""


class BundleError(NetError):
    """A bundle is incomplete or of another kind."""


class CaffeError(NetError):
    """A Caffe file cannot be read, or its net cannot be built or run."""


class TrainingError(FullconvError):
    """Training stopped early, with a reason."""
