"""Paired comparison of two results."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.measure.conftest import Pair, random_pair, scores_of, space_of

from fullconv.base.errors import DataError
from fullconv.labels.space import LabelSpace
from fullconv.measure.compare import compare


def worse(pair: Pair, share: float = 0.05) -> Pair:
    truth, guess = pair
    rng = np.random.default_rng(0)
    return truth, np.where(rng.random(guess.shape) < share, (guess + 1) % 4, guess).astype(np.uint8)


def test_a_result_does_not_differ_from_itself(space: LabelSpace) -> None:
    scores = scores_of([random_pair(seed) for seed in range(4)], space)
    assert compare(scores, scores).to_json() == {"mean_iou": 0.0, "interval": [0.0, 0.0]}
    assert not compare(scores, scores).certain


def test_the_difference_is_first_less_second_and_turns_its_sign(space: LabelSpace) -> None:
    pairs = [random_pair(seed) for seed in range(12)]
    good, bad = scores_of(pairs, space), scores_of([worse(pair) for pair in pairs], space)
    there, back = compare(good, bad), compare(bad, good)
    assert there.mean_iou == pytest.approx(good.mean_iou - bad.mean_iou)
    assert there.mean_iou > 0
    assert there.interval[0] > 0
    assert there.certain
    assert back.certain
    assert back.mean_iou == -there.mean_iou
    assert back.interval == pytest.approx((-there.interval[1], -there.interval[0]))


def test_pairing_narrows_the_interval(space: LabelSpace) -> None:
    pairs = [random_pair(seed, void_share=0.05 * (seed % 10)) for seed in range(20)]
    good, bad = scores_of(pairs, space), scores_of([worse(pair, 0.01) for pair in pairs], space)
    unpaired = np.hypot(np.ptp(good.mean_iou_interval), np.ptp(bad.mean_iou_interval))
    assert np.ptp(compare(good, bad).interval) < 0.6 * unpaired


def test_the_order_of_the_photos_does_not_matter(space: LabelSpace) -> None:
    pairs = [random_pair(seed) for seed in range(5)]
    first, second = scores_of(pairs, space), scores_of([worse(pair) for pair in pairs], space)
    turned = replace(
        second,
        photos=second.photos[::-1],
        truth=second.truth[::-1],
        guess=second.guess[::-1],
        hit=second.hit[::-1],
    )
    assert compare(first, turned) == compare(first, second)


def test_other_photos_classes_or_label_maps_are_refused(space: LabelSpace) -> None:
    pairs = [random_pair(seed) for seed in range(3)]
    scores = scores_of(pairs, space)
    with pytest.raises(DataError, match="the photos must be the same"):
        compare(scores, scores_of(pairs[:2], space))
    with pytest.raises(DataError, match=r"not in both: \['photo_0', 'renamed'\]"):
        compare(scores, replace(scores, photos=("renamed", *scores.photos[1:])))
    with pytest.raises(DataError, match="the classes must be the same"):
        compare(scores, scores_of(pairs, space_of(5)))
    with pytest.raises(DataError, match="true pixels of each class"):
        compare(scores, scores_of([random_pair(9), *pairs[1:]], space))
