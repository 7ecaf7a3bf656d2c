"""Constants on the class scores: the search finds what brute force finds, on train alone, and helps where it should."""

from __future__ import annotations

import pytest
import torch
from tests.train.conftest import tiny_net

from fullconv.data.samples import SampleSet
from fullconv.nets.prediction import predict_photo
from fullconv.train.offsets import GRID, LARGEST, best_offsets, fit_offsets, mean_ious


def mean_iou(scores: torch.Tensor, labels: torch.Tensor) -> float:
    guess = scores.argmax(1)
    each = [float(((guess == k) & (labels == k)).sum() / ((guess == k) | (labels == k)).sum()) for k in labels.unique()]
    return sum(each) / len(each)


@pytest.mark.parametrize("k", range(4))
def test_every_candidate_has_the_mean_iou_of_a_plain_count(k: int) -> None:
    torch.manual_seed(k)
    scores, labels = torch.randn(300, 5), torch.randint(0, 4, (300,))  # class 4 does not occur
    moved = torch.zeros(len(GRID), 5)
    moved[:, k] = GRID
    plain = [mean_iou(scores + row, labels) for row in moved]
    assert mean_ious(scores, labels, k).tolist() == pytest.approx(plain, abs=1e-6)


def test_a_rare_class_that_is_seen_but_not_called_is_called() -> None:
    torch.manual_seed(0)
    labels = (torch.rand(4000) < 0.05).long()
    scores = torch.stack([torch.zeros(4000), -2.5 + 2 * labels + 0.5 * torch.randn(4000)], 1)
    offsets = best_offsets(scores, labels)
    assert mean_iou(scores + offsets, labels) > mean_iou(scores, labels) + 0.2
    assert offsets.abs().max() <= LARGEST


def test_what_cannot_be_bettered_stays() -> None:
    labels = torch.randint(0, 3, (500,))
    assert best_offsets(10 * torch.nn.functional.one_hot(labels, 3).float(), labels).tolist() == [0, 0, 0]


def test_a_network_takes_them_into_its_scores_but_not_into_training(scenes: SampleSet) -> None:
    net = tiny_net(scenes.label_space)
    photo = scenes.val[0].read()[0]
    before = predict_photo(net, photo).scores
    offsets = fit_offsets(net, scenes.train)
    assert offsets.any()
    after = predict_photo(net, photo).scores
    assert torch.allclose(torch.from_numpy(after - before), offsets[:, None, None].expand(after.shape), atol=1e-5)
    assert torch.equal(fit_offsets(net, scenes.train), offsets)  # what was there is not added to
    net.train()
    photos = torch.randn(1, 3, 16, 16)
    torch.manual_seed(0)
    with_them = net(photos)
    net.offsets.zero_()
    torch.manual_seed(0)
    assert torch.equal(net(photos), with_them)


def test_half_of_what_fits_best_is_taken(scenes: SampleSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fullconv.train.offsets.best_offsets", lambda scores, labels: torch.ones(scores.shape[1]))
    net = tiny_net(scenes.label_space)
    assert fit_offsets(net, scenes.train).tolist() == [0.5] * scenes.label_space.size
    assert net.offsets.tolist() == [0.5] * scenes.label_space.size
