"""Where a blob's pixels lie on the photo, and by how much a Crop must cut. Road: caffe, beside the graph.

A layer maps a coordinate x of its bottom to scale * x + shift of its top. Source: docs/explanation/caffe.md,
"Geometry"; the rules are those of Caffe's coord_map.py. Knows no torch beyond the layers' windows.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from fullconv.base.errors import GeometryError
from fullconv.caffe.graph import Graph, Node
from fullconv.caffe.layer import SameShape
from fullconv.caffe.pointwise import Bias, Eltwise, Scale
from fullconv.caffe.shaping import Split
from fullconv.caffe.spatial import Convolution, Crop, Deconvolution, Pooling, Window

_AXES_OF_MAPS = 4  # (N, C, H, W)
_IN_PLACE_OF_ONE = (SameShape, Eltwise, Scale, Bias, Split)


@dataclass(frozen=True)
class Along:
    """Coordinates along one axis: `scale` * x + `shift`."""

    scale: Fraction = Fraction(1)
    shift: Fraction = Fraction(0)

    def after(self, below: Along) -> Along:
        """This one applied to what `below` gives."""
        return Along(self.scale * below.scale, self.scale * below.shift + self.shift)

    def turned(self) -> Along:
        """From the top's coordinates to the bottom's."""
        return Along(1 / self.scale, -self.shift / self.scale)


Map = tuple[Along, Along]  # rows, columns


def map_of(node: Node) -> Map | None:
    """From a layer's first bottom to its top; None where there is no such map."""
    layer = node.layer
    if isinstance(layer, Crop):
        offsets = {axis: offset for axis, offset, _ in layer.cuts(node.bottoms[0].shape, node.bottoms[1].shape)}
        rows, columns = (Along(shift=Fraction(-offsets.get(axis, 0))) for axis in (2, 3))
        return rows, columns
    if isinstance(layer, Convolution | Pooling):
        window = layer.window(node.bottoms[0].shape) if isinstance(layer, Pooling) else layer.window(2)
        rows, columns = (_of_window(window, axis, turned=isinstance(layer, Deconvolution)) for axis in (0, 1))
        return rows, columns
    return (Along(), Along()) if isinstance(layer, _IN_PLACE_OF_ONE) or layer.param.type == "LRN" else None


def _of_window(window: Window, axis: int, *, turned: bool) -> Along:
    middle = Fraction(window.extent[axis] - 1, 2)
    stride, pad = window.stride[axis], window.pad[axis]
    if turned:
        return Along(Fraction(stride), middle - pad)
    return Along(Fraction(1, stride), (pad - middle) / stride)


def maps_to(graph: Graph, blob: str) -> dict[str, Map]:
    """From each blob below, and itself, to a blob."""
    found: dict[int, Map] = {id(graph.cells[blob]): (Along(), Along())}
    for node in reversed(graph.nodes):
        above = next((found[id(cell)] for cell in node.tops if id(cell) in found), None)
        own = map_of(node) if above is not None and len(node.bottoms[0:1]) else None
        if above is None or own is None:
            continue
        below = node.bottoms[:1] if isinstance(node.layer, Crop) else node.bottoms
        for cell in below:
            if not any(cell is top for top in node.tops):
                rows, columns = (one.after(other) for one, other in zip(above, own, strict=True))
                found.setdefault(id(cell), (rows, columns))
    return {name: found[id(cell)] for name, cell in graph.cells.items() if id(cell) in found}


def crop_offset(graph: Graph, cut: str, like: str) -> tuple[int, int]:
    """By how many rows and columns one blob must be cut so that its pixels lie on another's.

    Raises: GeometryError if they have no blob below in common, other scales, or an offset that is no whole number
        from 0.
    """
    to_cut, to_like = maps_to(graph, cut), maps_to(graph, like)
    common = next((name for name in reversed(list(graph.cells)) if name in to_cut and name in to_like), None)
    if common is None:
        raise GeometryError(
            "a crop's blobs come from one blob", f"'{cut}' and '{like}' have none in common", "check names"
        )
    offsets = []
    for one, other in zip(to_cut[common], to_like[common], strict=True):
        between = other.after(one.turned())  # from the blob that is cut to the other
        if between.scale != 1 or between.shift > 0 or between.shift.denominator != 1:
            raise GeometryError(
                "a crop has the scale of what it is cut to, and a whole offset from 0",
                f"from '{cut}' to '{like}': scale {between.scale}, shift {between.shift}",
                "change strides, pads or kernels",
            )
        offsets.append(-int(between.shift))
    return offsets[0], offsets[1]


@dataclass(frozen=True)
class Grid:
    """Where a blob's places lie on the photo, rows and columns, in its pixels, whose middles are whole numbers.

    Args:
        stride: from one place to the next.
        offset: of the first place.
        field: pixels that a place sees at most (receptive field), padding counted.
    """

    stride: tuple[Fraction, Fraction]
    offset: tuple[Fraction, Fraction]
    field: tuple[Fraction, Fraction]


def grids_of(graph: Graph) -> dict[str, Grid]:
    """Of each blob that an input of maps reaches by windows, crops and layers that take places one by one.

    Where several ways lead to a blob, stride and offset are those of the first bottom's, the field is the widest.
    """
    one, none = (Fraction(1), Fraction(1)), (Fraction(0), Fraction(0))
    found = {name: Grid(one, none, one) for name in graph.inputs if len(graph.cells[name].shape) == _AXES_OF_MAPS}
    for node in graph.nodes:
        if node.layer.is_input:
            continue
        bottoms = node.bottoms[:1] if isinstance(node.layer, Crop) else node.bottoms
        read = [found[cell.name] for cell in bottoms if cell.name in found]
        own = map_of(node) if read and len(read) == len(bottoms) else None
        for cell in node.tops:
            if own is None:
                found.pop(cell.name, None)
                continue
            below = read[0]
            strides, offsets, fields = [], [], []
            for axis, along in enumerate(own):
                strides.append(below.stride[axis] / along.scale)
                offsets.append(below.offset[axis] - along.shift / along.scale * below.stride[axis])
                more = (_places(node, axis) - 1) * below.stride[axis]
                fields.append(max(grid.field[axis] for grid in read) + more)
            found[cell.name] = Grid((strides[0], strides[1]), (offsets[0], offsets[1]), (fields[0], fields[1]))
    return found


def _places(node: Node, axis: int) -> int:
    """How many places of its bottom a place of a layer's top sees, along an axis."""
    layer = node.layer
    if isinstance(layer, Convolution | Pooling):
        window = layer.window(node.bottoms[0].shape) if isinstance(layer, Pooling) else layer.window(2)
        transposed = isinstance(layer, Deconvolution)
        return -(-window.extent[axis] // window.stride[axis]) if transposed else window.extent[axis]
    return 1
