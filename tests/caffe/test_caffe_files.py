"""Text, binary and HDF5 files: every oddity is read, and whatever is broken or hostile ends in one clear error."""

from __future__ import annotations

import copy
import pickle
import random
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fullconv.base.errors import CaffeError, FullconvError, Unwritable, UsageError, WeightsError
from fullconv.caffe.blobs import read_mean
from fullconv.caffe.graph import Graph
from fullconv.caffe.message import Message
from fullconv.caffe.prototxt import parse_prototxt, read_prototxt
from fullconv.caffe.weights import read_weights, write_weights
from fullconv.caffe.wire import parse_binary, read_binary, write_binary

NET = 'name: "n" layer { name: "c" type: "Convolution" convolution_param { num_output: 2 pad: 1 kernel_size: 3 } }'


def tag(number: int, wire: int) -> bytes:
    value = number << 3 | wire
    return bytes([value]) if value < 128 else bytes([value & 127 | 128, value >> 7])


def chunk(number: int, data: bytes) -> bytes:
    length, found = len(data), b""
    while length > 127:
        found += bytes([length & 127 | 128])
        length >>= 7
    return tag(number, 2) + found + bytes([length]) + data


def blob(data: bytes, *shape: int) -> bytes:
    return chunk(7, chunk(1, bytes(shape))) + data


def caffemodel(*blobs: bytes) -> bytes:
    return chunk(100, chunk(1, b"conv") + chunk(2, b"Convolution") + b"".join(chunk(7, one) for one in blobs))


# ---- text -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [("0x10", 16), ("010", 8), ("7", 7), ("0", 0)],
)
def test_whole_numbers(text: str, value: int) -> None:
    assert parse_prototxt(f"input_dim: {text}").input_dim == [value]


@pytest.mark.parametrize("text", ["2.0", "1e2", '"2"', "08", "2147483648", "- -1", "1f", "0b1", "true"])
def test_what_is_no_whole_number(text: str) -> None:
    with pytest.raises(CaffeError, match="line 1"):
        parse_prototxt(f"input_dim: {text}")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.", 1),
        (".5", 0.5),
        ("1e-3", 1e-3),
        ("2E0", 2),
        ("1.5f", 1.5),
        ("3f", 3),
        ("-2", -2),
        ("inf", np.inf),
        ("-Infinity", -np.inf),
    ],
)
def test_numbers(text: str, value: float) -> None:
    assert parse_prototxt(f"base_lr: {text}", "SolverParameter").base_lr == value


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("t", True), ("1", True), ("False", False), ("f", False), ("0", False)]
)
def test_truth_values(text: str, value: bool) -> None:
    assert parse_prototxt(f"force_backward: {text}").force_backward is value


@pytest.mark.parametrize("text", ["yes", "TRUE", "2", '"true"'])
def test_what_is_no_truth_value(text: str) -> None:
    with pytest.raises(CaffeError):
        parse_prototxt(f"force_backward: {text}")


def test_strings_join_and_know_escapes() -> None:
    found = parse_prototxt(r"""name: 'a' "b\x31\061\n" # a comment
        '\\"' """)
    assert found.name == 'ab11\n\\"'


def test_lists_brackets_and_separators() -> None:
    found = parse_prototxt('input: ["a", "b"]; input_shape < dim: [1, 2] >, input_shape: { dim: 3 dim: 4 }')
    assert found.input == ["a", "b"]
    assert [list(shape.dim) for shape in found.input_shape] == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('naem: "x"', "did you mean name"),
        ('name: "a" name: "b"', "a second time"),
        ("layer { pooling_param { pool: MEDIAN } }", "MAX, AVE, STOCHASTIC"),
        ("layer { ", "the text ends"),
        ('layer { name: "open }', "names, numbers, quoted strings"),
        ("layer { clip_param { min: 1 } }", "it has not"),
        ("state { phase: 7 }", "0, 1"),
        ("name 'x'", "':' follows"),
        ('name: "x" $', "names, numbers"),
    ],
)
def test_faults_of_a_text_are_said_with_their_place(text: str, said: str) -> None:
    with pytest.raises(CaffeError) as refused:
        parse_prototxt(text)
    assert said in str(refused.value)
    assert "line 1, column" in refused.value.found


def test_a_message_is_copied_and_pickled() -> None:
    net = parse_prototxt('name: "a" layer { name: "l" bottom: ["x", "y"] }')
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)), copy.copy(net)):
        assert other == net
        other.name = "b"
        assert net.name == "a"
    assert copy.deepcopy(net).layer[0] is not net.layer[0]
    with pytest.raises(AttributeError):
        net._nothing  # noqa: B018


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "cp1252"])
def test_a_comment_is_in_any_encoding(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_bytes('name: "a"  # von Jörg, in Zürich\ninput: "b"'.encode(encoding))
    found = read_prototxt(tmp_path / "net.prototxt")
    assert (found.name, found.input) == ("a", ["b"])


def test_a_binary_file_is_no_prototxt(tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_bytes(bytes(range(256)))
    with pytest.raises(CaffeError, match="prototxt is text"):
        read_prototxt(tmp_path / "net.prototxt")
    with pytest.raises(CaffeError, match="No such file"):
        read_prototxt(tmp_path / "none.prototxt")


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="layer{}<>[]:;,\"'\\ #\n0123456789.-exf_ntype", max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(FullconvError):
        parse_prototxt(text)


# ---- binary ---------------------------------------------------------------------------------------------------------

ONES = struct.pack("<3f", 1, 2, 3)


@pytest.mark.parametrize(
    "data",
    [
        chunk(5, ONES),
        b"".join(tag(5, 5) + ONES[place : place + 4] for place in (0, 4, 8)),
        chunk(5, ONES[:4]) + tag(5, 5) + ONES[4:8] + chunk(5, ONES[8:]),
        chunk(8, struct.pack("<3d", 1, 2, 3)),
        chunk(5, struct.pack("<3f", 9, 9, 9)) + chunk(8, struct.pack("<3d", 1, 2, 3)),
    ],
    ids=["packed", "one by one", "mixed", "double", "double before float"],
)
def test_numbers_of_a_blob_in_every_form(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "w.caffemodel").write_bytes(caffemodel(blob(data, 3)))
    ((name, (found,)),) = read_weights(tmp_path / "w.caffemodel")
    assert name == "conv"
    assert found.data.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("data", "error", "said"),
    [
        (b"", WeightsError, "has layers"),
        (b"PK\x03\x04 a zip file, as torch writes it", CaffeError, "another kind"),
        (caffemodel(blob(chunk(5, ONES), 4)), WeightsError, "4 numbers"),
        (caffemodel(blob(chunk(5, ONES), 3))[:-5], CaffeError, "announces"),
        (caffemodel(blob(chunk(5, ONES[:-1]), 3)), CaffeError, "11 bytes"),
        (tag(100, 2) + b"\xff\xff\xff\xff\x7f", CaffeError, "announces"),
        (b"\xff" * 11, CaffeError, "10 bytes"),
        (tag(99, 3) * 200, CaffeError, "64 deep"),
        (chunk(3, b"") * 1_100_000, CaffeError, "fields"),
        (caffemodel(chunk(7, chunk(1, b"\xff\xff\xff\xff\x07" * 3))), WeightsError, "numbers"),
    ],
    ids=["empty", "zip", "short", "cut", "odd", "bomb", "endless", "deep", "many", "shape"],
)
def test_broken_and_hostile_files_end_in_one_error(
    data: bytes, error: type[FullconvError], said: str, tmp_path: Path
) -> None:
    (tmp_path / "w.caffemodel").write_bytes(data)
    with pytest.raises(error) as refused:
        read_weights(tmp_path / "w.caffemodel")
    assert said in str(refused.value)


def test_a_fault_names_its_layer(tmp_path: Path) -> None:
    (tmp_path / "w.caffemodel").write_bytes(caffemodel(blob(chunk(5, ONES), 4)))
    with pytest.raises(WeightsError, match="layer 'conv'"):
        read_weights(tmp_path / "w.caffemodel")
    whole = caffemodel(blob(chunk(5, ONES[:-1]), 3))
    with pytest.raises(CaffeError, match="LayerParameter 'conv'"):
        parse_binary(whole)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with suppress(FullconvError):
        parse_binary(data)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_file_with_any_byte_changed_is_read_or_refused(data: st.DataObject) -> None:
    whole = bytearray(caffemodel(blob(chunk(5, ONES), 3), blob(chunk(8, struct.pack("<d", 1)), 1)))
    whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with suppress(FullconvError):
        parse_binary(bytes(whole[: data.draw(st.integers(0, len(whole)))]))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    net = parse_prototxt(NET)
    net.layer[0].blobs = [
        Message("BlobProto", shape=Message("BlobShape", dim=[2, 300]), data=np.arange(600, dtype=np.float32))
    ]
    write_binary(net, tmp_path / "w.caffemodel")
    found = read_binary(tmp_path / "w.caffemodel")
    assert found.layer[0].blobs[0].data.tolist() == list(range(600))
    assert found.layer[0].convolution_param == net.layer[0].convolution_param
    assert found.name == "n"


@pytest.mark.parametrize("name", ["mean", "mean_newshape"])
def test_a_mean_of_either_age_is_caffes(golden: Path, name: str) -> None:
    found = read_mean(golden / f"misc/{name}.binaryproto")
    assert np.array_equal(found, np.load(golden / "misc/misc.npz")["mean"])


def test_a_mean_has_channels_rows_and_columns(tmp_path: Path) -> None:
    (tmp_path / "mean.binaryproto").write_bytes(blob(chunk(5, ONES), 3))
    with pytest.raises(CaffeError, match="channels, rows and columns"):
        read_mean(tmp_path / "mean.binaryproto")


def test_a_datum_is_caffes(golden: Path) -> None:
    found, pixels = read_binary(golden / "misc/datum.bin", "Datum"), np.load(golden / "misc/misc.npz")["datum"]
    assert (found.channels, found.height, found.width) == pixels.shape
    assert found.data == pixels.tobytes()
    assert found.label == 17
    assert not found.encoded
    assert list(found.float_data) == []


# ---- HDF5 -----------------------------------------------------------------------------------------------------------

SMALL = """input: "data" input_dim: [1, 1, 4, 4] layer { name: "c" type: "Convolution" bottom: "data" top: "c"
    convolution_param { num_output: 2 kernel_size: 3 } }"""
FED = """layer { name: "in" type: "HDF5Data" top: "data" top: "label"
    hdf5_data_param { source: "list.txt" batch_size: 3 } }"""


def test_without_h5py_hdf5_is_refused_with_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    (tmp_path / "w.h5").write_bytes(b"\x89HDF\r\n\x1a\n and more")
    with pytest.raises(UsageError) as refused:
        read_weights(tmp_path / "w.h5")
    assert "h5py" in refused.value.must
    assert f"{tmp_path / 'w.h5'} is HDF5" in refused.value.found
    assert refused.value.try_ == "pip install 'fullconv[hdf5]'"
    with pytest.raises(UsageError, match=r"fullconv\[hdf5\]"):
        write_weights(Graph(parse_prototxt(SMALL)), tmp_path / "other.h5")
    assert not (tmp_path / "other.h5").exists()


def test_hdf5_with_bytes_changed_is_read_or_refused(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    path = tmp_path / "w.h5"
    write_weights(Graph(parse_prototxt(SMALL)), path)
    whole, drawn, refusals = path.read_bytes(), random.Random(0), 0
    for _ in range(300):
        broken = bytearray(whole[: drawn.choice([len(whole), drawn.randrange(8, len(whole))])])
        for _ in range(5):
            broken[drawn.randrange(8, len(broken))] = drawn.randrange(256)
        path.write_bytes(broken)
        try:
            read_weights(path)
        except FullconvError:
            refusals += 1
    assert refusals > 50


@pytest.mark.parametrize(
    ("fill", "said"),
    [
        (lambda file: file.create_group("weights"), "'data'"),
        (lambda file: file.create_dataset("data", data=[1.0]), "as Caffe writes it"),
        (lambda file: file.create_dataset("data/c", data=[1.0]), "as Caffe writes it"),
        (lambda file: file.create_group("data/c/0/1"), "as Caffe writes it"),
        (lambda file: file.create_dataset("data/c/weight", data=[1.0]), "as Caffe writes it"),
        (lambda file: file.create_dataset("data/c/0", data="text"), "blob 0 has none"),
        (lambda file: file.create_dataset("data/c/0", (1 << 40,), "f4", chunks=(64,)), "bytes in 0"),
    ],
    ids=["no data", "data is none", "layer is none", "blob is a group", "no number", "text", "bomb"],
)
def test_hdf5_of_another_form_is_refused(fill: Callable[[Any], object], said: str, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "w.h5", "w") as file:
        fill(file)
    with pytest.raises(WeightsError) as refused:
        read_weights(tmp_path / "w.h5")
    assert said in str(refused.value)


def test_hdf5_is_written_whole_and_where_it_can_be(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    net = Graph(parse_prototxt(SMALL))
    write_weights(net, tmp_path / "new/folder/w.h5")
    assert [name for name, _ in read_weights(tmp_path / "new/folder/w.h5")] == ["c"]
    assert [path.name for path in (tmp_path / "new/folder").iterdir()] == ["w.h5"]
    (tmp_path / "file").touch()
    with pytest.raises(Unwritable):
        write_weights(net, tmp_path / "file/w.h5")


def fed(folder: Path, *sizes: tuple[int, ...]) -> Graph:
    """A net of HDF5 files whose data have these sizes: 0, 1, 2, ... in the order of the files."""
    h5py = pytest.importorskip("h5py")
    begin = 0
    for number, size in enumerate(sizes):
        values = np.arange(begin, begin + np.prod(size, dtype=int), dtype=np.float64).reshape(size)
        begin += values.size
        with h5py.File(folder / f"{number}.h5", "w") as file:
            file["data"], file["label"] = values, values.astype(np.int64)
    (folder / "list.txt").write_text("".join(f"{number}.h5\n" for number in range(len(sizes))))
    return Graph(parse_prototxt(FED), folder=folder)


def test_items_of_hdf5_files_come_in_turn_and_from_the_beginning_again(tmp_path: Path) -> None:
    net = fed(tmp_path, (4, 1), (1, 1))
    found = []
    for _ in range(3):
        net.forward()
        assert net.cells["data"].data.equal(net.cells["label"].data)
        found += net.cells["data"].data.ravel().tolist()
    assert found == [0, 1, 2, 3, 4, 0, 1, 2, 3]


@pytest.mark.parametrize("sizes", [[(4, 1), (4, 2)], [()], [(0, 1)]], ids=["two shapes", "one number", "no items"])
def test_hdf5_files_that_do_not_fit_are_refused(sizes: list[tuple[int, ...]], tmp_path: Path) -> None:
    with pytest.raises(CaffeError, match="mend the files"):
        fed(tmp_path, *sizes)
