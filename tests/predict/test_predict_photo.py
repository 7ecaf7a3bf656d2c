"""One photo: whatever holds it, the scores have its size, and the network stays as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fullconv.base.errors import UnreadableImage, UsageError
from fullconv.labels.space import LabelSpace
from fullconv.nets.heads import fcn16s
from fullconv.nets.segmentation import SegmentationNet
from fullconv.predict.photo import predict_photo
from small_nets import PREPARATION, SPACE, converted


@pytest.fixture(scope="module")
def net() -> SegmentationNet:
    torch.manual_seed(1)
    net = fcn16s(converted("residual"), label_space=SPACE, preparation=PREPARATION)
    with torch.no_grad():
        for layer in net.network.scores.values():
            layer.weight.normal_()
        means = torch.from_numpy(predict_photo(net, photo()).scores).mean((1, 2))
        net.network.scores["stride32"].bias -= means  # that no class wins everywhere
    return net


def photo(height: int = 41, width: int = 60) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8)


def test_labels_are_the_highest_scores_at_every_pixel(net: SegmentationNet) -> None:
    found = predict_photo(net, photo())
    assert found.scores.shape == (3, 41, 60)
    assert found.scores.dtype == np.float32
    assert found.labels.dtype == np.uint8
    assert np.array_equal(found.labels, found.scores.argmax(0))
    assert len(np.unique(found.labels)) > 1
    assert found.label_space is SPACE


def test_a_file_a_pillow_image_and_an_array_give_the_same(net: SegmentationNet, tmp_path: Path) -> None:
    Image.fromarray(photo()).save(tmp_path / "p.png")
    expected = predict_photo(net, photo()).scores
    for held in (tmp_path / "p.png", str(tmp_path / "p.png"), Image.fromarray(photo())):
        assert np.array_equal(predict_photo(net, held).scores, expected)


def test_grey_one_channel_and_16_bit_arrays_are_photos_too(net: SegmentationNet) -> None:
    grey = photo()[..., 0]
    expected = predict_photo(net, np.stack([grey] * 3, axis=2)).scores
    for held in (grey, grey[..., None], grey.astype(np.uint16) * 257):
        assert np.array_equal(predict_photo(net, held).scores, expected)


def test_transparency_is_laid_on_white(net: SegmentationNet) -> None:
    clear = np.dstack([photo(), np.zeros((41, 60), np.uint8)])
    assert np.array_equal(predict_photo(net, clear).scores, predict_photo(net, np.full_like(photo(), 255)).scores)


@pytest.mark.parametrize(
    "held",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros(4, np.uint8),
    ],
)
def test_another_array_is_refused_with_the_remedy(net: SegmentationNet, held: np.ndarray) -> None:
    with pytest.raises(UnreadableImage, match="uint8"):
        predict_photo(net, held)


def test_bf16_is_near_fp32_and_only_where_it_is_asked_for(net: SegmentationNet) -> None:
    exact, near = (predict_photo(net, photo(), precision=precision).scores for precision in ("fp32", "bf16"))
    assert np.array_equal(exact, predict_photo(net, photo()).scores)
    assert near.dtype == np.float32
    assert 0 < np.abs(near - exact).max() < 0.05 * np.abs(exact).max()
    with pytest.raises(UsageError, match="fp32, bf16"):
        predict_photo(net, photo(), precision="fp8")


def test_the_network_stays_in_its_modes_and_keeps_its_weights(net: SegmentationNet) -> None:
    net.train()
    net.network.body.eval()  # as when normalisation is held still
    modes = [module.training for module in net.modules()]
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    predict_photo(net, photo())
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    net.eval()


def test_more_than_255_classes_get_16_bits() -> None:
    k = 300
    space = LabelSpace(tuple(f"c{i}" for i in range(k)), ((1, 2, 3),) * k, tuple((i,) for i in range(k)))
    net = fcn16s(converted("residual"), label_space=space, preparation=PREPARATION, deconvolution="frozen")
    with torch.no_grad():
        net.network.scores["stride32"].bias[299] = 1
    found = predict_photo(net, photo(8, 8)).labels
    assert found.dtype == np.uint16
    assert (found == 299).all()
