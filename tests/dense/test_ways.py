"""Every way scores every pixel of photos of any size; what is alike comes out alike."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tests.dense.conftest import dense, photo
from tests.small_nets import PREPARATION, SPACE, converted

from fullconv.base.errors import UsageError
from fullconv.dense.objects import object_labels
from fullconv.dense.scales import check_enlarged, resized
from fullconv.dense.ways import (
    WAYS_OF_CLASSIFIERS,
    WAYS_OF_SEGMENTERS,
    Choices,
    DenseClassifier,
    dense_scores,
    with_bilinear,
)
from fullconv.nets.heads import fcn16s
from fullconv.nets.segmentation import SegmentationNet
from fullconv.nets.sharp import sharp


def segmenter() -> SegmentationNet:
    torch.manual_seed(2)
    net = fcn16s(converted("residual"), label_space=SPACE, preparation=PREPARATION)
    with torch.no_grad():
        for p in net.network.scores.parameters():  # type: ignore[union-attr]
            p.normal_()
    return net.eval()


@pytest.mark.parametrize("way", WAYS_OF_CLASSIFIERS)
@pytest.mark.parametrize("size", [(61, 80), (24, 31), (15, 90)])
def test_every_way_of_a_classifier_scores_every_pixel(way: str, size: tuple[int, int], plain: DenseClassifier) -> None:
    if way == "patches" and size[0] < 24:
        pytest.skip("a patch as large as the window does not fit")
    scores = dense_scores(plain, photo(*size), way=way, choices=Choices(patch=25))
    assert (scores.classes, scores.size) == (4, size)
    labels, shares = scores.best()
    assert labels.shape == size
    assert np.isfinite(shares).all()
    assert (shares >= 1 / 4).all()


@pytest.mark.parametrize("way", WAYS_OF_SEGMENTERS)
def test_every_way_of_a_segmenter_scores_every_pixel(way: str) -> None:
    scores = dense_scores(segmenter(), photo(45, 70), way=way)
    assert (scores.classes, scores.size) == (3, (45, 70))
    assert np.isfinite(scores.of(range(3))).all()


@pytest.mark.parametrize("kind", ["plain", "bordered", "same"])
def test_one_pass_puts_each_score_at_the_middle_of_its_window(kind: str, request: pytest.FixtureRequest) -> None:
    model: DenseClassifier = request.getfixturevalue(kind)
    side = model.window[0] + 64  # an even number of strides: padding as at the window
    part = dense_scores(model, photo(side, side), way="once").parts[0]
    assert part.rows is not None
    stride = int(model.grid.stride[0])
    middle = (model.window[0] - 1) / 2 + stride  # of the second window, between two pixels
    around = part.rows[[int(middle), int(middle) + 1]].mean(0)
    assert around.tolist() == pytest.approx([0, 1] + [0] * (len(around) - 2), abs=0.5 / stride + 1e-6)


def test_where_each_cell_is_scored_alone_the_windows_cells_lie_evenly_round_its_middle(same: DenseClassifier) -> None:
    alone = dense(same.classifier.network, 64, "cell")
    cells = [float(alone.grid.offset[0] + alone.lean[0] + i * alone.grid.stride[0]) for i in range(alone.grid.size[0])]
    assert cells == [15.5, 47.5]
    assert alone.grid.offset == (31, 31)


@pytest.mark.parametrize("way", ["shift", "rarefied"])
def test_the_finer_ways_agree_with_one_pass_at_its_own_cells(way: str, plain: DenseClassifier) -> None:
    picture = photo()
    fine, coarse = dense_scores(plain, picture, way=way).parts[0], dense_scores(plain, picture, way="once").parts[0]
    rows, columns = (min(fine.values.shape[i] // 2, coarse.values.shape[i]) for i in (1, 2))
    torch.testing.assert_close(
        fine.values[:, : 2 * rows : 2, : 2 * columns : 2], coarse.values[:, :rows, :columns], atol=1e-5, rtol=1e-5
    )


def test_the_mean_over_a_photo_and_its_mirror_image_is_the_same_for_the_mirror_image(plain: DenseClassifier) -> None:
    picture = photo()
    choices = Choices(scales=(1.0,), mirror=True)
    one = dense_scores(plain, picture, way="scales", choices=choices).of(range(4))
    other = dense_scores(plain, np.ascontiguousarray(picture[:, ::-1]), way="scales", choices=choices).of(range(4))
    np.testing.assert_allclose(one, other[:, :, ::-1], atol=1e-5)


def test_scales_of_a_segmenter_with_scale_1_and_no_mirror_change_nothing() -> None:
    net, picture = segmenter(), photo(45, 70)
    plain = dense_scores(net, picture).of(range(3))
    same = dense_scores(net, picture, way="scales", choices=Choices(scales=(1.0,), mirror=False)).of(range(3))
    np.testing.assert_array_equal(plain, same)
    mirrored = dense_scores(net, picture, way="scales", choices=Choices(scales=(1.0,), mirror=True)).of(range(3))
    flipped = dense_scores(net, np.ascontiguousarray(picture[:, ::-1])).of(range(3))[:, :, ::-1]
    np.testing.assert_allclose(mirrored, (plain + flipped) / 2, atol=1e-4)


@pytest.mark.parametrize("scales", [(), (1.0, 0.0), (-1.0,), (1e-9,), (math.nan,), (1.0, math.inf)])
def test_scales_are_numbers_that_a_photo_can_be_resized_by(scales: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match=r"positive factors, from 0\.01 to 100"):
        Choices(scales=scales)


def test_a_scaled_photo_has_at_least_a_pixel_a_side() -> None:
    assert resized(photo(45, 70), 0.01).shape == (1, 1, 3)


def test_a_way_that_is_not_known_is_an_error_that_names_them(plain: DenseClassifier) -> None:
    with pytest.raises(UsageError, match="once, windows, patches"):
        dense_scores(plain, photo(), way="magic")
    with pytest.raises(UsageError, match="once, bilinear, scales"):
        dense_scores(segmenter(), photo(), way="shift")


def test_before_training_learned_deconvolution_is_bilinear_and_afterwards_it_is_put_back() -> None:
    net, picture = segmenter(), photo(45, 70)
    untrained = dense_scores(net, picture).of(range(3))
    np.testing.assert_allclose(dense_scores(net, picture, way="bilinear").of(range(3)), untrained, atol=1e-5)
    with torch.no_grad():
        for p in net.network.enlargements.parameters():  # type: ignore[union-attr]
            p.add_(0.05)
    changed = dense_scores(net, picture).of(range(3))
    assert not np.allclose(changed, untrained, atol=1e-3)
    np.testing.assert_allclose(dense_scores(net, picture, way="bilinear").of(range(3)), untrained, atol=1e-5)
    np.testing.assert_array_equal(dense_scores(net, picture).of(range(3)), changed)


def test_the_sharp_head_has_no_deconvolution_to_put_back() -> None:
    with pytest.raises(UsageError, match="without deconvolutions"):
        with_bilinear(sharp(converted("residual"), label_space=SPACE, preparation=PREPARATION))


def test_objects_are_where_their_class_stands_high_and_the_rest_is_background() -> None:
    from fullconv.dense.full_size import DenseScores, Part

    values = torch.full((3, 4, 8), -5.0)
    values[1, :, :3] = 10  # the second class on the left
    values[2, 0, 7] = 0.4  # a weak hint of the third
    labels = object_labels(DenseScores((Part(values, None, None),)))
    assert (labels[:, :3] == 2).all()
    assert (labels[:, 3:] == 0).all()


def test_a_strip_is_not_enlarged_to_a_side_that_matrices_cannot_hold() -> None:
    strip = np.zeros((3, 5000, 3), np.uint8)
    check_enlarged(strip, (9, 15000))
    with pytest.raises(UsageError, match="3x5000 would become 24x40000"):
        check_enlarged(strip, (24, 40_000))
    check_enlarged(np.zeros((3, 40_000, 3), np.uint8), (3, 40_000))


def test_a_strip_that_would_grow_without_bound_is_refused_before_any_work(plain: DenseClassifier) -> None:
    with pytest.raises(UsageError, match="1x5000000 would become"):
        dense_scores(plain, np.zeros((1, 5_000_000, 3), np.uint8), way="once")
