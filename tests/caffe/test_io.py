"""Photos and means in and out, by the names of pycaffe's io, proto and Classifier."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.caffe.conftest import must_be_close

import fullconv.caffe as caffe
from fullconv.base.errors import CaffeError, FullconvError, UsageError
from fullconv.caffe.proto import caffe_pb2

NET = """
name: "tiny"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 4 dim: 3 dim: 4 dim: 5 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 2 } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }
"""


def test_load_image_gives_rgb_or_grey_from_0_to_1(tmp_path: Path) -> None:
    Image.fromarray(np.array([[[255, 0, 51]]], np.uint8)).save(tmp_path / "photo.png")
    photo = caffe.io.load_image(tmp_path / "photo.png")
    assert photo.dtype == np.float32
    must_be_close(photo, np.array([[[1, 0, 0.2]]], np.float32), 1e-6, "RGB")
    grey = caffe.io.load_image(str(tmp_path / "photo.png"), color=False)
    assert grey[0, 0].tolist() == pytest.approx([0.2125 + 0.2 * 0.0721])


def test_the_input_scale_is_applied_after_the_mean() -> None:
    transformer = caffe.io.Transformer({"data": (1, 1, 2, 2)})
    transformer.set_transpose("data", (2, 0, 1))
    transformer.set_raw_scale("data", 10)
    transformer.set_mean("data", np.array([4.0]))
    transformer.set_input_scale("data", 0.5)
    assert transformer.preprocess("data", np.ones((2, 2, 1))).tolist() == [[[3, 3], [3, 3]]]


@pytest.mark.parametrize("size", [(4.5, 4), (4,), (0, 4), (4, 4, 3)])
def test_a_size_is_two_whole_numbers(size: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match="height and width"):
        caffe.io.resize_image(np.zeros((2, 2, 3)), size)


def test_a_size_may_be_whole_floats() -> None:
    assert caffe.io.resize_image(np.zeros((2, 2, 3)), (4.0, np.float64(6))).shape == (4, 6, 3)


def test_a_photo_without_channels_is_refused() -> None:
    transformer = caffe.io.Transformer({"data": (1, 3, 4, 4)})
    transformer.set_transpose("data", (2, 0, 1))
    for size in (4, 5):
        with pytest.raises(UsageError, match="rows, columns and channels"):
            transformer.preprocess("data", np.zeros((size, size)))
    transformer.set_channel_swap("data", (2, 1, 0))
    with pytest.raises(CaffeError, match="3 channels"):
        transformer.preprocess("data", np.zeros((4, 4, 1)))


def test_a_grey_mean_may_be_of_two_axes() -> None:
    transformer = caffe.io.Transformer({"data": (1, 1, 2, 2)})
    transformer.set_transpose("data", (2, 0, 1))
    transformer.set_mean("data", np.array([[1, 2], [3, 4]]))
    assert transformer.preprocess("data", np.full((2, 2, 1), 5)).tolist() == [[[4, 3], [2, 1]]]


def test_oversample_takes_corners_centre_and_mirror_images() -> None:
    photos = np.random.default_rng(0).random((2, 6, 9, 3)).astype(np.float32)
    found = caffe.io.oversample(photos, (4, 5))
    assert found.shape == (20, 4, 5, 3)
    for number, photo in enumerate(photos):
        for place, (top, left) in enumerate([(0, 0), (0, 4), (2, 0), (2, 4), (1, 2)]):
            for row, column in np.ndindex(4, 5):
                one = photo[top + row, left + column]
                assert np.array_equal(found[10 * number + place, row, column], one)
                assert np.array_equal(found[10 * number + 5 + place, row, 4 - column], one)
    with pytest.raises(UsageError, match="not smaller"):
        caffe.io.oversample(photos, (7, 5))


@pytest.mark.parametrize("name", ["mean", "mean_newshape"])
def test_a_mean_is_read_as_scripts_do(golden: Path, name: str) -> None:
    path = golden / f"misc/{name}.binaryproto"
    wanted = np.load(golden / "misc/misc.npz")["mean"]
    blob = caffe.proto.caffe_pb2.BlobProto()
    blob.ParseFromString(path.read_bytes())
    assert np.array_equal(np.array(caffe.io.blobproto_to_array(blob)).reshape(wanted.shape), wanted)
    assert np.array_equal(caffe.io.read_mean(path), wanted)
    if name == "mean":
        assert caffe.io.blobproto_to_array(blob)[0].shape == wanted.shape
        assert blob.HasField("num")
        assert not blob.HasField("shape")


def test_arrays_go_into_messages_and_back() -> None:
    data, diff = np.random.default_rng(0).random((2, 2, 3, 4)).astype(np.float32)
    again = caffe_pb2.BlobProto()
    again.ParseFromString(caffe.io.array_to_blobproto(data, diff).SerializeToString())
    assert np.array_equal(caffe.io.blobproto_to_array(again), data)
    assert np.array_equal(caffe.io.blobproto_to_array(again, return_diff=True), diff)


def test_other_messages_are_read(golden: Path) -> None:
    datum = caffe_pb2.Datum()
    datum.ParseFromString((golden / "misc/datum.bin").read_bytes())
    pixels = np.load(golden / "misc/misc.npz")["datum"]
    assert datum.label == 17
    assert (datum.channels, datum.height, datum.width) == pixels.shape
    assert datum.data == pixels.tobytes()
    net = caffe_pb2.NetParameter(name="other")
    net.ParseFromString((golden / "nets/lenet_like.caffemodel").read_bytes())
    assert net.name != "other"
    names = [layer.name for layer in net.layer]
    assert "conv1" in names
    net.ParseFromString((golden / "nets/lenet_like.caffemodel").read_bytes())
    assert [layer.name for layer in net.layer] == names, "what it held before is gone"
    with pytest.raises(CaffeError, match="announces"):
        net.ParseFromString(b"\x0a\x09")


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    path = tmp_path / "tiny.prototxt"
    path.write_text(NET)
    net = caffe.Net(path, caffe.TEST)
    rng = np.random.default_rng(1)
    for blob in net.params["ip"]:
        blob.data[...] = rng.normal(0, 0.2, blob.shape)
    net.save(tmp_path / "tiny.caffemodel")
    return str(path), str(tmp_path / "tiny.caffemodel")


def scores_of(files: tuple[str, str], crop: np.ndarray) -> np.ndarray:
    """Softmax of the net for an RGB crop from 0 to 1, by its definition."""
    weights, bias = (blob.data for blob in caffe.Net(*files, caffe.TEST).params["ip"])
    prepared = (255 * crop[:, :, ::-1].astype(np.float64) - [104, 117, 123]) * 0.01
    raised = np.exp(weights @ prepared.transpose(2, 0, 1).ravel() + bias)
    return raised / raised.sum()


def test_a_classifier_takes_the_mean_over_ten_crops(files: tuple[str, str]) -> None:
    mean = np.array([104.0, 117, 123])
    net = caffe.Classifier(*files, (6, 9), mean, 0.01, 255, (2, 1, 0))
    photos = np.random.default_rng(2).random((3, 6, 9, 3)).astype(np.float32)
    found, centres = net.predict(photos), net.predict(list(photos), oversample=False)
    assert found.shape == centres.shape == (3, 2)
    for photo, one, centre in zip(photos, found, centres, strict=True):
        corners = [photo[top : top + 4, left : left + 5] for top in (0, 2) for left in (0, 4)]
        crops = [*corners, photo[1:5, 2:7]]
        every = [scores_of(files, crop) for crop in (*crops, *(crop[:, ::-1] for crop in crops))]
        must_be_close(one, np.mean(every, 0), 1e-5, "mean of ten")
        must_be_close(centre, every[4], 1e-5, "centre")


def test_a_classifier_takes_whole_photos_unless_it_is_told_a_size(files: tuple[str, str]) -> None:
    net = caffe.Classifier(*files, channel_swap=(2, 1, 0), raw_scale=255, mean=np.array([104, 117, 123]))
    assert net.image_dims.tolist() == [4, 5]
    assert net.predict([np.zeros((8, 10, 3)), np.zeros((40, 3, 3))]).shape == (2, 2)
    with pytest.raises(UsageError, match="not smaller than the crops"):
        caffe.Classifier(*files, image_dims=(3, 9))
    with pytest.raises(FullconvError, match="photos to classify"):
        net.predict([])
