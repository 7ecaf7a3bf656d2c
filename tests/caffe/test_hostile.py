"""Files that lie about what they hold: each ends in one error, at once, and in little memory."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.caffe.test_caffe_files import NET, ONES, blob, caffemodel, chunk, tag

from fullconv.base.errors import CaffeError, FullconvError, WeightsError
from fullconv.caffe.blobs import read_mean
from fullconv.caffe.fillers import FILLERS, filled
from fullconv.caffe.graph import Graph
from fullconv.caffe.message import Message
from fullconv.caffe.prototxt import parse_prototxt, read_prototxt
from fullconv.caffe.rules import State
from fullconv.caffe.solver import Solver
from fullconv.caffe.weights import as_message, read_weights
from fullconv.caffe.wire import parse_binary

MEMORY = 60e6  # bytes that an error may take
FEW = 20_000  # fields and words
INPUT = 'layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 1 dim: 3 dim: 20 dim: 20 } } } '


BUILT = INPUT + NET.replace("layer {", 'layer { bottom: "d" top: "t"', 1)


def varint(value: int) -> bytes:
    found = b""
    while value > 127:
        found, value = found + bytes([value & 127 | 128]), value >> 7
    return found + bytes([value])


def shape(*sizes: int) -> bytes:
    return chunk(7, chunk(1, b"".join(map(varint, sizes))))


def layer(kind: str, rest: str = "", top: str = 'top: "t"') -> str:
    return f'{INPUT} layer {{ name: "c" type: "{kind}" bottom: "d" {top} {rest} }}'


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lower bounds than usual, so that small files go beyond them."""
    monkeypatch.setattr("fullconv.caffe.wire._MOST_FIELDS", FEW)
    monkeypatch.setattr("fullconv.caffe.prototxt._MOST_WORDS", FEW)


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Fails where a test has taken more than `MEMORY`."""
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MEMORY


def must_be_three_lines(error: FullconvError) -> None:
    lines = str(error).split("\n")
    if [line.split(":")[0] for line in lines] != ["error", "found", "try"] or max(map(len, lines)) > 2500:
        raise AssertionError(str(error)[:1000])


# ---- binary ---------------------------------------------------------------------------------------------------------

ONE = tag(5, 5) + ONES[:4]  # a number that is not packed
UNKNOWN = tag(99, 0) + b"\1"
BINARY = {
    "zeros": (bytes(10_000_000), "another kind"),
    "jpeg": (b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(100), "another kind"),
    "web page": (b"<!DOCTYPE html><title>404 Not Found</title>", "another kind"),
    "field beyond all": (varint(1 << 32) + b"\0", "another kind"),
    "shape of 10^12": (caffemodel(shape(10**6, 10**6) + chunk(5, ONES)), "2^31 - 1"),
    "shape below 0": (caffemodel(shape(2**64 - 3) + chunk(5, ONES)), "none negative"),
    "shape of 0 and much": (caffemodel(shape(0, 2**63 - 1, 2**63 - 1)), "2^31 - 1"),
    "shape of 10,000 axes": (caffemodel(shape(*[1] * 10_000) + chunk(5, ONES)), "32 axes"),
    "group that ends as another": (tag(99, 3) + tag(98, 4), "group 99 ends as such"),
    "dims without end": (chunk(4, b"\1" * 100_000), "fields"),
    "numbers one by one": (caffemodel(shape(3) + (ONE + UNKNOWN) * 30_000), "fields"),
    "number cut": (caffemodel(tag(5, 5) + b"\0\0") + chunk(1, b"net"), "announces"),
    "empty runs": (chunk(100, chunk(5, b"") * 30_000), "fields"),
    "loss weights": (chunk(100, chunk(5, bytes(4 * 30_000))), "fields"),
    "name of 1 MB": (chunk(100, chunk(1, b"x" * 1_000_000)), "'name' has at most 1024 bytes"),
    "name with a zero byte": (chunk(100, chunk(1, b"a\0b")), "no zero bytes"),
}


@pytest.mark.usefixtures("little_memory")
@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", BINARY)
def test_a_hostile_caffemodel_ends_in_one_error(name: str, tmp_path: Path) -> None:
    data, said = BINARY[name]
    (tmp_path / "w.caffemodel").write_bytes(data)
    with pytest.raises((CaffeError, WeightsError), match=said.replace("^", r"\^")) as refused:
        read_weights(tmp_path / "w.caffemodel")
    must_be_three_lines(refused.value)
    for read in (read_mean, read_prototxt):
        with pytest.raises(FullconvError) as refused:
            read(tmp_path / "w.caffemodel")
        must_be_three_lines(refused.value)


@pytest.mark.parametrize("left", range(50, 90))
def test_a_file_cut_within_a_layer_names_it(left: int) -> None:
    whole = caffemodel(blob(chunk(5, ONES), 3), blob(chunk(5, ONES), 3), blob(chunk(5, ONES * 4), 12))
    with pytest.raises(CaffeError, match=r"LayerParameter 'conv'.* announced .* are there"):
        parse_binary(whole[:left])


def test_many_numbers_one_by_one_beside_others_are_read() -> None:
    numbers = np.arange(FEW // 4, dtype=np.float32)
    mixed = b"".join(
        (tag(5, 5) + one.tobytes() if place % 3 else chunk(5, one.tobytes())) + UNKNOWN
        for place, one in enumerate(numbers)
    )
    assert parse_binary(mixed, "BlobProto").data.tolist() == numbers.tolist()


@pytest.mark.timeout(20)
def test_empty_lists_are_looked_through_once() -> None:
    assert len(parse_binary(chunk(5, b"") * 15_000, "LayerParameter").loss_weight) == 0


def test_doubles_that_are_none_do_not_hide_floats(tmp_path: Path) -> None:
    (tmp_path / "w.caffemodel").write_bytes(caffemodel(blob(chunk(5, ONES) + chunk(8, b""), 3)))
    ((_, (found,)),) = read_weights(tmp_path / "w.caffemodel")
    assert found.data.tolist() == [1, 2, 3]


def test_a_mean_of_several_photos_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mean.binaryproto").write_bytes(shape(3, 1, 1, 1) + chunk(5, ONES))
    with pytest.raises(CaffeError, match="a mean image has"):
        read_mean(tmp_path / "mean.binaryproto")


def test_an_overlong_tag_is_one_all_the_same() -> None:
    assert parse_binary((b"\xad\x00" + ONES[:4]) * 2, "BlobProto").data.tolist() == [1, 1]


def test_numbers_beyond_float32_are_infinite(tmp_path: Path) -> None:
    (tmp_path / "w.caffemodel").write_bytes(caffemodel(shape(2) + chunk(8, np.array([1e300, -1e300]).tobytes())))
    ((_, (found,)),) = read_weights(tmp_path / "w.caffemodel")
    assert found.data.tolist() == [np.inf, -np.inf]


MANY = np.arange(1_000_000, dtype="<f4")


def one_by_one(numbers: np.ndarray[Any, Any]) -> bytes:
    rows = np.empty((len(numbers), 5), np.uint8)
    rows[:, 0], rows[:, 1:] = 5 << 3 | 5, numbers.view(np.uint8).reshape(-1, 4)
    return rows.tobytes()


FORMS = {
    "packed": chunk(5, MANY.tobytes()),
    "one by one": one_by_one(MANY),
    "in two runs": chunk(5, MANY[:500_000].tobytes()) + chunk(5, MANY[500_000:].tobytes()),
    "packed, then one by one": chunk(5, MANY[:500_000].tobytes()) + one_by_one(MANY[500_000:]),
    "double": chunk(8, MANY.astype("<f8").tobytes()),
    "with gradients": chunk(5, MANY.tobytes()) + chunk(6, MANY.tobytes()),
}


@pytest.mark.parametrize("form", FORMS)
def test_reading_takes_the_memory_of_the_numbers(form: str, tmp_path: Path) -> None:
    path = tmp_path / "w.caffemodel"
    path.write_bytes(caffemodel(shape(len(MANY)) + FORMS[form]))
    tracemalloc.start()
    ((_, (found,)),) = read_weights(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(found.data, MANY)
    assert peak < MANY.nbytes + 6e6  # what is looked at together


# ---- text -----------------------------------------------------------------------------------------------------------

TEXT = {
    "braces": (b"layer " + b"{" * 1_000_000, "a field's name"),
    "one line": (b"layer{} " * 30_000, "20000 words"),
    "50 MB": (b"# " * (25 << 20), "8 MB"),
    "a long list": (b"input_dim: [" + b"1," * 30_000 + b"1]", "20000 words"),
    "a long word": (b"a" * 5_000_000, "has a field"),
    "a long text": (b'name: "' + b"a" * 5_000_000 + b'"', "at most 1024 bytes"),
    "a long text in parts": (b"name: " + b'"a" ' * 10_000, "at most 1024 bytes"),
    "an open text": (b'name: "' + b"\\a" * 2_000_000, "quoted strings"),
    "a long number": (b"input_dim: " + b"9" * 1_000_000, "from -2147483648"),
    "a long hexadecimal number": (b"input_dim: 0x" + b"f" * 5000, "from -2147483648"),
    "UTF-16": ('name: "x"'.encode("utf-16"), "byte order mark"),
    "UTF-16 without a mark": ('name: "x"'.encode("utf-16-le"), "a field 'n'"),
    "byte order mark": (b'\xef\xbb\xbfname: "x"', "byte order mark"),
    "zero byte": (b'name: "x"\0', "names, numbers"),
    "zero byte in a text": (b'name: "a\\0b"', "no zero bytes"),
    "zip": (b"PK\x03\x04\0\0", "a field 'PK'"),
}


@pytest.mark.usefixtures("little_memory")
@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", TEXT)
def test_a_hostile_prototxt_ends_in_one_error(name: str, tmp_path: Path) -> None:
    data, said = TEXT[name]
    (tmp_path / "net.prototxt").write_bytes(data)
    with pytest.raises(CaffeError, match=said) as refused:
        read_prototxt(tmp_path / "net.prototxt")
    must_be_three_lines(refused.value)


PYTHON = 'layer { name: "d" type: "Python" top: "d" python_param { layer: "VOCSegDataLayer" param_str: "%s" } }'
HDF5 = 'layer { name: "d" type: "HDF5Data" top: "d" hdf5_data_param { source: "%s" batch_size: 1 } }'
NETS = {
    "dims of 10^12": ('input: "d" input_shape { dim: 1000000000000 }', "2^31 - 1"),
    "dims below 0": ('input: "d" input_shape { dim: -1 }', "none negative"),
    "9,000 axes": ('input: "d" input_shape { dim: [' + "1," * 9_000 + "1] }", "32 axes"),
    "kernel": (layer("Convolution", "convolution_param { num_output: 9 kernel_size: 65535 pad: 65535 }"), "2^31 - 1"),
    "outputs": (layer("InnerProduct", "inner_product_param { num_output: 4294967295 }"), "2^31 - 1"),
    "stride": (layer("Deconvolution", "convolution_param { num_output: 1 kernel_size: 2 stride: 4294967295 }"), "2^31"),
    "pyramid": (layer("SPP", "spp_param { pyramid_height: 4294967295 }"), "pixels for each window"),
    "tiles": (layer("Tile", "tile_param { tiles: 2147483647 }"), "2^31 - 1"),
    "reshape": (layer("Reshape", "reshape_param { shape { dim: [" + "2," * 9_000 + "2] } }"), "32 axes"),
    "endless listing": (HDF5 % "/dev/zero", "no such file"),
    "binary listing": (HDF5 % "{folder}/binary", "lists HDF5 files"),
    "settings, nested": (PYTHON % ("-" * 50_000 + "1"), "dictionary of literals"),
    "settings, unhashable": (PYTHON % "{[]: 1}", "dictionary of literals"),
    "settings, tops": (PYTHON % "{'tops': 5}", "dictionary of literals"),
}


@pytest.mark.usefixtures("little_memory")
@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", NETS)
def test_a_hostile_net_is_not_built(name: str, tmp_path: Path) -> None:
    text, said = NETS[name]
    (tmp_path / "binary").write_bytes(b"\xff" * 100)
    with pytest.raises(CaffeError, match=said.replace("^", r"\^")) as refused:
        Graph(parse_prototxt(text.replace("{folder}", str(tmp_path))))
    must_be_three_lines(refused.value)


def of_inputs(kind: str, *shapes: str, rest: str = "") -> str:
    """A layer on inputs of these shapes, as "2,3"; "" has no axes."""
    names = "abc"[: len(shapes)]
    inputs = " ".join(f"shape {{ dim: [{one}] }}" for one in shapes)
    tops, bottoms = (" ".join(f'{word}: "{name}"' for name in names) for word in ("top", "bottom"))
    return f"""layer {{ name: "in" type: "Input" {tops} input_param {{ {inputs} }} }}
        layer {{ name: "l" type: "{kind}" {bottoms} top: "t" {rest} }}"""


REFUSED = {
    "euclidean without items": of_inputs("EuclideanLoss", "", ""),
    "sigmoid without items": of_inputs("SigmoidCrossEntropyLoss", "", ""),
    "hinge without items": of_inputs("HingeLoss", "", ""),
    "contrastive without items": of_inputs("ContrastiveLoss", "", "", ""),
    "argmax without items": of_inputs("ArgMax", ""),
    "concat of fewer axes": of_inputs("Concat", "3", "", rest="concat_param { axis: 0 }"),
    "means of two tops": of_inputs("Pooling", "1,1,4,4", rest='top: "u" pooling_param { pool: AVE kernel_size: 2 }'),
    "statistics without items": of_inputs("BatchNorm", ""),
    "windows on axis 0": of_inputs("Im2col", "2,3,4,4", rest="convolution_param { kernel_size: 2 axis: 0 }"),
    "filter without items": of_inputs("Filter", "", ""),
    "no pyramid": of_inputs("SPP", "1,2,4,4", rest="spp_param { pyramid_height: 0 }"),
    "dropout": of_inputs("Dropout", "2", rest="dropout_param { dropout_ratio: 2 }"),
    "pool": of_inputs("Pooling", "1,1,4,4", rest="pooling_param { kernel_size: 99999 stride: 99999 pad: 99998 }"),
    "response": of_inputs("LRN", "1,1,4,4", rest="lrn_param { local_size: 99999 norm_region: WITHIN_CHANNEL }"),
    "none and much": of_inputs("ReLU", "0,9223372036854775807,9223372036854775807"),
    "nothing to fill": of_inputs(
        "InnerProduct", "1,0", rest='inner_product_param { num_output: 2 weight_filler { type: "xavier" } }'
    ),
    "sparse without outputs": of_inputs(
        "Bias", "2", rest='bias_param { num_axes: 0 filler { type: "gaussian" sparse: 0 } }'
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_layer_cannot_compute_is_refused(name: str) -> None:
    with pytest.raises(CaffeError) as refused:
        as_message(Graph(parse_prototxt(REFUSED[name]), State("TRAIN")))
    must_be_three_lines(refused.value)


COMPUTED = {  # by hand
    "hinge of one score an item": (of_inputs("HingeLoss", "3", "3"), [[1, 2, 3], [0, 0, 0]], 0),
    "contrastive of one number an item": (of_inputs("ContrastiveLoss", "2", "2", "2"), [[1, 2], [0, 0], [1, 1]], 1.25),
    "argmax of one number an item": (of_inputs("ArgMax", "2"), [[5, 6]], [[[0]], [[0]]]),
    "variance of one number an item": (of_inputs("MVN", "2"), [[5, 6]], [0, 0]),
    "power of nothing": (of_inputs("Power", "1", rest="power_param { power: -1 scale: 0 }"), [[5]], [np.inf]),
    "root of less": (of_inputs("Power", "1", rest="power_param { power: 0.5 scale: 0 shift: -1 }"), [[5]], [np.nan]),
    "windows that hang over": (
        of_inputs("Im2col", "1,1,1,1", rest="convolution_param { kernel_size: 2 stride: 2 }"),
        [[[[[5]]]]],
        [[[[5]], [[0]], [[0]], [[0]]]],
    ),
    "scale of one number": (of_inputs("Scale", "", ""), [3, 4], 12),
    "responses beyond all channels": (
        of_inputs("LRN", "1,2,1,1", rest="lrn_param { local_size: 4294967295 alpha: 4294967295 beta: 1 }"),
        [[[[[1]], [[2]]]]],
        [[[[1 / 6]], [[2 / 6]]]],
    ),
    "state of one number an item": (
        of_inputs("RNN", "2,1", "2,1", rest="recurrent_param { num_output: 1 }"),
        [[[5], [6]], [[0], [1]]],
        [[[0]], [[0]]],
    ),
    "a learned number": (
        of_inputs("Scale", "1", rest='scale_param { axis: 0 num_axes: 0 filler { type: "positive_unitball" } }'),
        [[5]],
        [5],
    ),
}


@pytest.mark.parametrize("name", COMPUTED)
def test_blobs_of_few_axes_are_computed(name: str) -> None:
    text, given, wanted = COMPUTED[name]
    graph = Graph(parse_prototxt(text))
    for name, value in zip(graph.inputs, given, strict=True):
        graph.cells[name].data = torch.tensor(value, dtype=torch.float32)
    graph.forward()
    np.testing.assert_allclose(graph.cells["t"].data.numpy(), np.array(wanted, np.float32), rtol=1e-6)


@pytest.mark.parametrize("filler", sorted(set(FILLERS) - {"bilinear"}))
def test_a_single_number_is_filled(filler: str) -> None:
    found = filled((), Message("FillerParameter", type=filler), of="a number")
    assert found.shape == ()
    assert found.isfinite()


@pytest.mark.usefixtures("little_memory")
def test_parameters_of_a_net_together_are_bounded() -> None:
    large = "inner_product_param {{ num_output: 1200000 }}"
    one = 'layer {{ name: "c{0}" type: "InnerProduct" bottom: "d" top: "t{0}" ' + large + " }} "
    Graph(parse_prototxt(INPUT + one.format(0)))
    with pytest.raises(CaffeError, match="parameters of a net"):
        Graph(parse_prototxt(INPUT + one.format(0) + one.format(1)))


def test_the_gradient_of_a_large_blob_with_a_loss_weight_is_made_when_asked_for() -> None:
    graph = Graph(parse_prototxt(layer("Tile", "loss_weight: 2 tile_param { tiles: 1700000 axis: 0 }")))
    assert graph.cells["t"]._diff is None
    graph.cells["t"].reshape((2, 3))
    assert graph.cells["t"].diff.tolist() == [[2, 2, 2], [2, 2, 2]]


def test_lists_of_numbers_in_a_binary_net_build_as_those_of_a_text(tmp_path: Path) -> None:
    text = layer("Eltwise", 'bottom: "d" eltwise_param { coeff: 1 coeff: 2 }')
    net = parse_prototxt(text)
    coeff = chunk(2, np.array([1, 2], "<f4").tobytes())
    data = chunk(100, chunk(2, b"Eltwise") + chunk(110, coeff))
    assert parse_binary(data).layer[0].eltwise_param == net.layer[1].eltwise_param
    Graph(net)


# ---- what is no file, or another one --------------------------------------------------------------------------------


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "none", "long"])
def test_what_is_no_file_is_refused(kind: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "net.prototxt").write_text(BUILT)
    (tmp_path / "solver.prototxt").write_text('net: "net.prototxt" lr_policy: "fixed"')
    path = {"device": Path("/dev/zero"), "long": tmp_path / ("a" * 300)}.get(kind, tmp_path / kind)
    solver = Solver(tmp_path / "solver.prototxt")
    for read in (read_weights, read_mean, read_prototxt, solver.restore, Solver):
        with pytest.raises(FullconvError) as refused:
            read(path)
        must_be_three_lines(refused.value)


def hdf5(path: Path, fill: Callable[[Any], None]) -> Path:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        fill(file["/"])
    return path


def many_names(file: Any) -> None:
    file["data/conv/0"] = np.zeros(500_000, np.float32)
    for place in range(1, 100):
        file[f"data/conv/{place}"] = file["data/conv/0"]


def compressed(file: Any) -> None:
    file.create_dataset("data/conv/0", data=np.zeros(8_000_000, np.float32), compression="gzip")


def elsewhere(file: Any) -> None:
    file.create_dataset("data/conv/0", (1_000_000,), "f4", external=[("/dev/zero", 0, 4_000_000)])


@pytest.mark.parametrize(
    ("fill", "said"), [(many_names, "announces"), (compressed, "announces"), (elsewhere, "numbers of its own")]
)
def test_a_hostile_hdf5_file_ends_in_one_error(fill: Callable[[Any], None], said: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=said) as refused:
        read_weights(hdf5(tmp_path / "w.caffemodel.h5", fill))
    must_be_three_lines(refused.value)


STATES = {
    "counts backwards": (tag(1, 0) + varint(2**64 - 1), "0 or more"),
    "names no weights": (b"", "histories"),
    "names weights at length": (chunk(2, b"a" * 300), "File name too long"),
}


@pytest.mark.parametrize("name", STATES)
def test_a_hostile_state_ends_in_one_error(name: str, tmp_path: Path) -> None:
    data, said = STATES[name]
    (tmp_path / "net.prototxt").write_text(BUILT)
    (tmp_path / "solver.prototxt").write_text('net: "net.prototxt" lr_policy: "fixed"')
    histories = blob(chunk(5, bytes(4 * 54)), 2, 3, 3, 3), blob(chunk(5, bytes(8)), 2)
    kept = b"".join(chunk(3, one) for one in histories) if "length" in name else b""
    (tmp_path / "x.solverstate").write_bytes(data + kept)
    with pytest.raises(FullconvError, match=said) as refused:
        Solver(tmp_path / "solver.prototxt").restore(tmp_path / "x.solverstate")
    must_be_three_lines(refused.value)
