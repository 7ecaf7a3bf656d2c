"""What samples are worth: halves, what is seen in cells, and how well an estimate foretells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import jaccard_score, precision_score, recall_score

import fullconv as fc
from fullconv.data.scenes import write_scenes
from fullconv.study import small as station_small
from fullconv.study.check import agreement, foretold, halves_of, retrained
from fullconv.study.refit import Cells, Floats, effects, measures, refit
from fullconv.study.small import (
    LONGEST,
    MODEL,
    Small,
    guess,
    mean_iou,
    measured,
    pixels_by_guess,
    shrink_samples,
    train_several,
    train_small,
)
from fullconv.study.value import BORNE_OUT, Seen, advise, cells_of, sample_values, seen_by_networks, worth_of


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Small, ...]:
    root = tmp_path_factory.mktemp("small")
    write_scenes(root / "scenes", train=4, val=2)
    return shrink_samples(fc.read_samples(root / "scenes").split("all"), root / "small")


def test_a_small_sample_has_the_classes_where_the_large_one_has_them(tmp_path: Path) -> None:
    write_scenes(tmp_path / "scenes", train=3, val=1, size=(300, 420))
    given = fc.read_samples(tmp_path / "scenes").split("all")
    for large, one in zip(given, shrink_samples(given, tmp_path / "small"), strict=True):
        labels = one.labels()
        assert max(labels.shape) == LONGEST
        assert labels.shape == one.size
        again = Image.fromarray(large.read_labels()).resize(labels.shape[::-1], Image.Resampling.NEAREST)
        assert (np.array(again) == labels).mean() > 0.99


def test_what_is_kept_is_what_the_classifier_s_maps_hold(small: tuple[Small, ...], tmp_path: Path) -> None:
    classifier = fc.build_classifier(MODEL, classes=None, weights="embedded")
    converted = fc.convolutionalize(classifier.network, classifier.window, norms="folded")
    body = fc.sharp(converted, label_space=small[0].label_space, preparation=classifier.preparation).network.body
    write_scenes(tmp_path, train=2, val=1)
    photo, _ = fc.read_samples(tmp_path).train[0].read()  # the first of the fixture's, of 192 x 256 already
    with torch.inference_mode():
        expected = body.eval()(classifier.preparation.prepare(photo)[None])[-4:]
    assert [tap.stride for tap in body.taps[-4:]] == [4, 8, 16, 32]
    for kept, one in zip(small[0].maps(), expected, strict=True):
        np.testing.assert_allclose(kept, one[0].numpy(), atol=2e-3, rtol=2e-3)  # half precision


def test_a_small_sample_is_written_once(small: tuple[Small, ...], tmp_path: Path) -> None:
    write_scenes(tmp_path / "scenes", train=2, val=1)
    given = fc.read_samples(tmp_path / "scenes").split("all")
    shrink_samples(given, tmp_path / "small")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "small").rglob("*.npy")}
    assert len(times) == 6
    shrink_samples(given, tmp_path / "small")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "small").rglob("*.npy")} == times


def test_a_photo_smaller_than_a_crop_is_extended_and_what_is_beyond_teaches_nothing(tmp_path: Path) -> None:
    write_scenes(tmp_path / "scenes", train=2, val=1, size=(64, 96))
    tiny = shrink_samples(fc.read_samples(tmp_path / "scenes").split("all"), tmp_path / "small")
    maps, labels = station_small._batch(tiny[:1], np.random.default_rng(0))
    assert [one.shape[2:] for one in maps] == [(40, 40), (20, 20), (10, 10), (5, 5)]
    assert (labels[0, 16:] == 255).all()
    assert (labels[0, :, 24:] == 255).all()
    assert (labels[0, :16, :24] != 255).all()
    assert guess(train_small(tiny, seed=0), tiny[0]).shape[1:] == (64, 96)


def test_crops_hold_the_classes_at_the_centres_of_the_finest_cells(small: tuple[Small, ...]) -> None:
    drawn = np.random.default_rng(0)
    maps, labels = station_small._batch(small[:3], drawn)
    again = np.random.default_rng(0)
    for place, sample in enumerate(small[:3]):
        row, column = (int(again.integers(cells - 5 + 1)) * 32 for cells in (6, 8))
        top, left = (int(part) for part in station_small._backbone()[1][0].offset)
        expected = sample.labels()[row + top : row + 160 : 4, column + left : column + 160 : 4]
        np.testing.assert_array_equal(labels[place], expected)
        finest = sample.maps()[0][:, row // 4 : row // 4 + 40, column // 4 : column // 4 + 40]
        np.testing.assert_array_equal(maps[0][place], finest)


def test_halves_are_halves_and_their_complements() -> None:
    halves = halves_of(11, seed=3, pairs=4)
    assert halves.shape == (8, 11)
    np.testing.assert_array_equal(halves[::2], ~halves[1::2])
    assert set(halves[::2].sum(1)) == {5}
    assert len({tuple(half) for half in halves}) == 8


@pytest.mark.usefixtures("quick")
def test_the_score_layer_makes_of_a_cell_what_the_network_says_there(small: tuple[Small, ...]) -> None:
    head = train_small(small, seed=0)
    cells = cells_of(head, small[:1], seed=0, most=50)
    assert head.score.bias is not None
    weights, bias = head.score.weight[:, :, 0, 0].detach().numpy(), head.score.bias.detach().numpy()
    with torch.inference_mode():
        scores = head.cells([torch.from_numpy(one.astype(np.float32))[None] for one in small[0].maps()])[0].numpy()
    of_cells = (cells.features[0, :, :-1] @ weights.T + bias).round(3)
    everywhere = {tuple(one) for one in scores.reshape(len(scores), -1).T.round(3).tolist()}
    assert sum(tuple(one) in everywhere for one in of_cells.tolist()) > 40  # but for rounding
    assert (cells.features[..., -1] == 1).all()
    assert cells.labels.max() <= cells.classes


def test_what_a_sample_does_to_the_iou_follows_from_recall_and_precision() -> None:
    draw = np.random.default_rng(0)
    cells = [
        Cells(draw.normal(size=(6, 20, 4)).astype(np.float32), draw.integers(0, 3, (6, 20)), np.ones(3))
        for _ in range(2)
    ]
    one = Seen(*cells, refit(cells[0]))
    ((of_recall, of_precision, of_iou),) = sample_values([one]).transpose(0, 2, 1, 3)
    iou = iou_of(*measures(cells[1], one.weights))
    foretold = effects(*cells, one.weights)
    np.testing.assert_allclose(of_recall, foretold[:, 0])
    np.testing.assert_allclose(of_precision, BORNE_OUT * foretold[:, 1])
    moved = iou_of(*(measures(cells[1], one.weights)[:, None] + 1e-4 * np.stack([of_recall, of_precision])))
    np.testing.assert_allclose((moved - iou) / 1e-4, of_iou, rtol=1e-3, atol=1e-6)


def iou_of(recall: Floats, precision: Floats) -> Floats:
    return np.asarray(recall * precision / (recall + precision - recall * precision))


def test_measures_are_those_of_sklearn() -> None:
    rng = np.random.default_rng(0)
    truth, guess = rng.integers(0, 3, (2, 500))
    pixels = np.histogram2d(truth, guess, bins=[np.arange(4)] * 2)[0].astype(np.int64)
    oracles = [score(truth, guess, average=None) for score in (recall_score, precision_score, jaccard_score)]
    np.testing.assert_allclose(measured(pixels), oracles)


@pytest.mark.usefixtures("quick")
def test_what_the_journal_holds_is_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[tuple[tuple[int, ...], int]] = []

    def train(chosen: list[int], *, seed: int) -> tuple[int, ...]:
        part = tuple(chosen)
        trained.append((part, seed))
        if len(trained) == 3:
            raise KeyboardInterrupt
        return part

    monkeypatch.setattr(station_small, "train_small", train)
    monkeypatch.setattr(station_small, "pixels_by_guess", lambda net, val: np.diag([sum(net), 1]))
    halves = halves_of(4, seed=0, pairs=1)
    with pytest.raises(KeyboardInterrupt):
        retrained([1, 2, 4, 8], (), halves, tmp_path / "journal")  # type: ignore[list-item]
    outcomes = retrained([1, 2, 4, 8], (), halves, tmp_path / "journal")  # type: ignore[list-item]
    assert outcomes.shape == (2, 2, 3, 2)
    assert len(trained) == 5  # four and the one that was stopped
    assert {part for part, _ in trained} == {tuple(np.array([1, 2, 4, 8])[half].tolist()) for half in halves}


def test_an_estimate_that_is_right_foretells_all_and_chance_nothing() -> None:
    rng = np.random.default_rng(0)
    worth = rng.normal(size=(60, 3))
    halves = halves_of(60, seed=0, pairs=30)
    outcome = halves @ worth
    assert foretold(halves @ worth, outcome).mean == pytest.approx(1)
    assert foretold(halves @ -worth, outcome).mean == pytest.approx(-1)
    chances = [foretold(halves @ rng.normal(size=(60, 3)), outcome).mean for _ in range(10)]
    assert abs(np.mean(chances)) < 0.15
    noisy = foretold(halves @ (worth + rng.normal(size=(60, 3))), outcome)
    assert noisy.low < noisy.mean < noisy.high < 1


def test_a_class_that_is_nowhere_does_not_count() -> None:
    rng = np.random.default_rng(0)
    guess = rng.normal(size=(8, 2))
    assert foretold(guess, np.stack([guess[:, 0], np.full(8, np.nan)], 1)).mean == pytest.approx(1)


def test_values_are_held_against_single_trainings() -> None:
    rng = np.random.default_rng(0)
    worth, halves = rng.normal(size=(60, 2)), halves_of(60, seed=0, pairs=30)
    exact = halves @ worth
    outcomes = np.stack([exact, rng.normal(size=exact.shape)], 1)  # the second seed is nothing but noise
    assert agreement(worth, halves, outcomes).mean == pytest.approx((1 + foretold(exact, outcomes[:, 1]).mean) / 2)


def test_what_all_networks_hold_for_harmful_is_dropped_and_what_is_likely_wrong_fixed() -> None:
    values = np.zeros((4, 5, 3, 2))
    values[:, 0, 2] = 0.1  # helps
    values[:, 1, 2] = -0.1  # harms
    values[:, 2, 2] = np.array([-0.3, 0.1, -0.3, 0.1])[:, None]  # networks disagree
    values[:, 3, 2] = -0.1  # harms, and is likely wrong
    values[:, 4, 1] = -0.1  # lowers a precision, and the IoU not
    advice = advise(tuple("abcde"), values, ("d", "of val"))
    assert (advice.fix, advice.drop) == (("d",), ("b",))


@pytest.mark.usefixtures("quick")
def test_a_small_network_is_trained_and_counted(small: tuple[Small, ...]) -> None:
    net = train_small(small[:4], seed=0)
    counts = pixels_by_guess(net, small[4:])
    assert counts.sum() == sum((sample.labels() < small[0].label_space.size).sum() for sample in small[4:])
    assert mean_iou(net, small[4:]) == pytest.approx(np.nanmean(measured(counts)[2]))
    twice, other = (pixels_by_guess(train_small(small[:4], seed=seed), small[4:]) for seed in (0, 1))
    np.testing.assert_array_equal(twice, counts)
    assert (other != counts).any()


def test_networks_trained_side_by_side_are_those_trained_one_by_one(small: tuple[Small, ...], tmp_path: Path) -> None:
    beside = train_several(small[:2], 2, tmp_path / "heads", seed=3)
    for seed, head in enumerate(beside, 3):
        alone = guess(train_small(small[:2], seed=seed), small[5]).softmax(0)
        assert (guess(head, small[5]).softmax(0) - alone).abs().mean() < 0.02  # sums of floats in another order
    again = train_several(small[:1], 2, tmp_path / "heads", seed=3)  # kept: the samples are not looked at
    np.testing.assert_array_equal(guess(again[1], small[5]), guess(beside[1], small[5]))
    apart = guess(beside[0], small[5]).softmax(0) - guess(beside[1], small[5]).softmax(0)
    assert apart.abs().mean() > 0.02


@pytest.mark.usefixtures("quick")
def test_the_worth_of_samples_from_end_to_end(small: tuple[Small, ...], tmp_path: Path) -> None:
    values = sample_values(
        seen_by_networks(train_several(small[:4], 2, tmp_path / "heads", seed=0), small[:4], small[4:], seed=0)
    )
    assert values.shape == (2, 4, 3, small[0].label_space.size)
    assert np.isfinite(values).all()
    spoiled, heads = small[0].name, train_several(small[:4], 4, tmp_path / "heads", seed=0)
    worth = worth_of(heads, small[:4], small[4:], (spoiled, "of val"), tmp_path, seed=0, pairs=1)
    assert worth.names == tuple(sample.name for sample in small[:4])
    assert worth.values.shape == (4, 4, 3, small[0].label_space.size)
    assert worth.advice.fix == (spoiled,)
    assert worth.gain is not None
    assert worth.gain[1] <= worth.gain[0] <= worth.gain[2]
    assert set(worth.agreement) == set(worth.ceiling) == {"recall", "precision", "iou"}
