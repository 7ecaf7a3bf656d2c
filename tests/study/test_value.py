"""What samples are worth: halves, what is seen in cells, and how well an estimate foretells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import jaccard_score, precision_score, recall_score

import fullconv as fc
from fullconv.data.scenes import write_scenes
from fullconv.predict.photo import predict_photo
from fullconv.study import check as station
from fullconv.study.check import agreement, foretold, halves_of, retrained
from fullconv.study.small import LONGEST, mean_iou, measured, pixels_by_guess, shrink_samples, train_small
from fullconv.study.value import advise, cells_of, sample_values, seen_by_networks, worth_of


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[fc.Sample, ...]:
    root = tmp_path_factory.mktemp("small")
    write_scenes(root / "scenes", train=4, val=2)
    return shrink_samples(fc.read_samples(root / "scenes").split("all"), root / "small")


def test_a_small_sample_has_the_classes_where_the_large_one_has_them(tmp_path: Path) -> None:
    write_scenes(tmp_path / "scenes", train=3, val=1)
    given = fc.read_samples(tmp_path / "scenes").split("all")
    for large, one in zip(given, shrink_samples(given, tmp_path / "small"), strict=True):
        photo, labels = one.read()
        assert max(labels.shape) == min(LONGEST, max(large.size))
        assert photo.shape[:2] == labels.shape == one.size
        again = Image.fromarray(large.read_labels()).resize(labels.shape[::-1], Image.Resampling.NEAREST)
        assert (np.array(again) == labels).mean() > 0.99


def test_a_small_sample_is_written_once(small: tuple[fc.Sample, ...]) -> None:
    times = [sample.photo.stat().st_mtime_ns for sample in small]
    folder = small[0].photo.parents[2]
    assert shrink_samples(small, folder) == small
    assert [sample.photo.stat().st_mtime_ns for sample in small] == times


def test_halves_are_halves_and_their_complements() -> None:
    halves = halves_of(11, seed=3, pairs=4)
    assert halves.shape == (8, 11)
    np.testing.assert_array_equal(halves[::2], ~halves[1::2])
    assert set(halves[::2].sum(1)) == {5}
    assert len({tuple(half) for half in halves}) == 8


def test_the_score_layer_makes_of_a_cell_what_the_network_says_there(small: tuple[fc.Sample, ...]) -> None:
    classifier = fc.build_classifier("embedded:efficientnet_lite0", classes=None, weights="embedded", seed=0)
    converted = fc.convolutionalize(classifier.network, classifier.window, norms="folded")
    net = fc.sharp(converted, label_space=small[0].label_space, preparation=classifier.preparation)
    net.network.eval()
    cells = cells_of(net, small[:2], seed=0, number=50)
    score = net.network.head.score
    weights = score.weight[:, :, 0, 0].detach().numpy()
    bias = np.zeros(len(weights)) if score.bias is None else score.bias.detach().numpy()
    guess = (cells.features[..., :-1] @ weights.T + bias).argmax(-1)
    photo, _ = small[0].read()
    seen = set(np.unique(predict_photo(net, photo).labels))
    assert set(np.unique(guess[0])) <= seen  # interpolation makes up no class that no cell has
    assert (cells.features[..., -1] == 1).all()
    assert cells.labels.max() <= cells.classes


def test_measures_are_those_of_sklearn() -> None:
    rng = np.random.default_rng(0)
    truth, guess = rng.integers(0, 3, (2, 500))
    pixels = np.histogram2d(truth, guess, bins=[np.arange(4)] * 2)[0].astype(np.int64)
    oracles = [score(truth, guess, average=None) for score in (recall_score, precision_score, jaccard_score)]
    np.testing.assert_allclose(measured(pixels), oracles)


def test_what_the_journal_holds_is_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[tuple[tuple[int, ...], int]] = []

    def train(part: tuple[int, ...], *, seed: int) -> tuple[int, ...]:
        trained.append((part, seed))
        if len(trained) == 3:
            raise KeyboardInterrupt
        return part

    monkeypatch.setattr(station, "train_small", train)
    monkeypatch.setattr(station, "pixels_by_guess", lambda net, val: np.diag([sum(net), 1]))
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
    values[:, 2, 2] = np.array([-0.1, 0.1, -0.1, 0.1])[:, None]  # networks disagree
    values[:, 3, 2] = -0.1  # harms, and is likely wrong
    values[:, 4, 1] = -0.1  # lowers a precision, and the IoU not
    advice = advise(tuple("abcde"), values, {"d": 0.2, "a": 0.9})
    assert (advice.fix, advice.drop) == (("d",), ("b",))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings too short to learn anything."""
    monkeypatch.setattr("fullconv.study.small.STEPS", 3)
    monkeypatch.setattr("fullconv.study.small.BATCH", 2)


@pytest.mark.usefixtures("quick")
def test_a_small_network_is_trained_and_counted(small: tuple[fc.Sample, ...]) -> None:
    net = train_small(small[:4], seed=0)
    counts = pixels_by_guess(net, small[4:])
    assert counts.sum() == sum((sample.read_labels() < small[0].label_space.size).sum() for sample in small[4:])
    assert mean_iou(net, small[4:]) == pytest.approx(np.nanmean(measured(counts)[2]))
    twice, other = (pixels_by_guess(train_small(small[:4], seed=seed), small[4:]) for seed in (0, 1))
    np.testing.assert_array_equal(twice, counts)
    assert (other != counts).any()


@pytest.mark.usefixtures("quick")
def test_the_worth_of_samples_from_end_to_end(small: tuple[fc.Sample, ...], tmp_path: Path) -> None:
    values = sample_values(seen_by_networks(small[:4], small[4:], seed=0, networks=2))
    assert values.shape == (2, 4, 3, small[0].label_space.size)
    assert np.isfinite(values).all()
    spoiled = small[0].name
    worth = worth_of(small[:4], small[4:], {spoiled: 0.1}, tmp_path / "halves.jsonl", seed=0, pairs=1)
    assert worth.names == tuple(sample.name for sample in small[:4])
    assert worth.values.shape == (4, 4, 3, small[0].label_space.size)
    assert worth.advice.fix == (spoiled,)
    assert worth.gain is not None
    assert worth.gain[1] <= worth.gain[0] <= worth.gain[2]
    assert set(worth.agreement) == set(worth.ceiling) == {"recall", "precision", "iou"}
