"""What a study answers with the help of networks, one call a question: read it after `road`.

samples -> case -> wrong labels -> small networks -> more samples, label next, worth

In: what is asked. Out: answers. Every training keeps what it made in the study's folder: the same question, asked
again, goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fullconv.base.errors import UsageError
from fullconv.base.files import content_hash
from fullconv.data.samples import SampleSet
from fullconv.labels.decode import source_of
from fullconv.nets.bundle import load
from fullconv.nets.sharp import SharpHead
from fullconv.road import Asked, again, asked_of, case_of, code_version, samples_of
from fullconv.study import check, growth, small, small_folds
from fullconv.study.case import Case
from fullconv.study.document import Answers
from fullconv.study.folds import FOLDS, folds_of, items_of, unseen
from fullconv.study.growth import growth_of, nested_parts
from fullconv.study.label_next import label_next
from fullconv.study.prelabels import Batch, Unlabelled, photos_to_label, seen_small, write_prelabels
from fullconv.study.questions import Questions
from fullconv.study.small import NETWORKS, Small, shrink_samples, too_thin, train_several
from fullconv.study.small_folds import ROUNDS, seen_by_others
from fullconv.study.suspects import WrongLabels
from fullconv.study.value import worth_of
from fullconv.study.wrong_labels import at_own_size, probabilities_of, wrong_labels

FEWEST = 8  # samples of train, of which parts are trained on
Say = Callable[[str], None]


def answers_to(asked: Questions, *, say: Say = lambda _: None) -> tuple[Case, Answers]:
    """The case, and what is asked of it beyond the findings. What can be refused comes before what takes minutes.

    Raises: as `study_road.study_samples`.
    """
    of_run = _as_a_run_asks(asked)
    case = case_of(of_run)
    if not asked.of_small_networks:
        return case, Answers(_seen_by_runs(case, of_run, asked, say))
    samples, folder = _sound_samples(case, of_run, asked.out)
    _check_enough(samples, asked)
    rounds = []
    if asked.value and asked.run is None:
        items = items_of(case, [one.name for one in samples.train])
        rounds = [folds_of(items, seed=of_run.seed + number) for number in range(ROUNDS)]
    offered = None
    if asked.unlabelled is not None:
        labelled = samples.contents.values()
        offered = photos_to_label(asked.unlabelled, labelled, samples.label_space, _folder_of_photos(asked.out))
    answers = Answers(None if asked.run is None else _seen_by_runs(case, of_run, asked, say))
    train, val = shrink_samples(samples.train, folder), shrink_samples(samples.val, folder)
    if asked.curve:
        trainings = len(nested_parts(len(train), seed=of_run.seed))
        say(f"What more samples would bring: {trainings} trainings of a small network.")
        answers = replace(answers, growth=growth_of(train, val, folder / "parts.jsonl", seed=of_run.seed))
    if asked.value or offered is not None:
        say(f"What small networks make of the samples: {NETWORKS} trainings.")
        heads = train_several(train, NETWORKS, folder / "heads", seed=of_run.seed)
    if offered is not None:
        answers = replace(answers, batch=_batch(offered, samples, train, val, heads, asked))
    if asked.value:
        wrong = answers.wrong or _seen_by_small(samples, train, rounds, folder, of_run.seed, say)
        say("What samples are worth: some 50 trainings of a small network.")
        worth = worth_of(heads, train, val, wrong.doubtful, folder, seed=of_run.seed)
        answers = replace(answers, wrong=wrong, worth=worth)
    return case, answers


def _as_a_run_asks(asked: Questions) -> Asked:
    if asked.run is not None:
        return replace(asked_of(asked.run), data=asked.data)
    return Asked(
        data=asked.data,
        out=asked.out,
        classes=asked.classes,
        others=asked.others,
        void=asked.void,
        splits=asked.splits,
        skip_bad=True,
    )


# ---- wrong labels ---------------------------------------------------------------------------------------------------


def _seen_by_runs(case: Case, of_run: Asked, asked: Questions, say: Say) -> WrongLabels:
    """What networks say of the labels that have not seen them: of runs like the one named."""
    assert asked.run is not None
    earlier = asked.run
    how_long = f"{of_run.steps} steps a stage" if of_run.steps else f"{of_run.minutes:g} minutes"
    say(f"Wrong labels: {FOLDS} runs of {how_long}, as {earlier} was asked, each without a part of train.")
    parts = unseen(
        case,
        earlier,
        asked.out / "folds",
        lambda splits, folder: again(earlier, data=asked.data, out=folder, splits=splits, say=say),
        seed=of_run.seed,
    )
    assert case.space is not None
    return wrong_labels(partial(probabilities_of, parts), case.space)


def _seen_by_small(
    samples: SampleSet,
    train: Sequence[Small],
    rounds: Sequence[Sequence[Collection[str]]],
    folder: Path,
    seed: int,
    say: Say,
) -> WrongLabels:
    """The same, of small networks, on the samples of train; each round is one parting of these."""
    say(f"Wrong labels: {sum(map(len, rounds))} trainings of a small network.")
    seen = seen_by_others(train, rounds, folder / "others", seed=seed)
    sizes = {one.name: one.size for one in samples.train}
    return at_own_size(wrong_labels(seen, samples.label_space), train, sizes)


# ---- what to label next ---------------------------------------------------------------------------------------------


def _batch(
    offered: tuple[dict[str, Unlabelled], dict[Path, str]],
    samples: SampleSet,
    train: Sequence[Small],
    val: Sequence[Small],
    heads: Sequence[SharpHead],
    asked: Questions,
) -> Batch:
    """Which photos to label next, and label maps to begin with: by the run, else by the small networks."""
    unlabelled, left_out = offered
    chosen = label_next(heads, train, val, [one.small for one in unlabelled.values()], asked.batch)
    bundle = None if asked.run is None else load(asked.run / "bundle")

    def see(name: str, photo: NDArray[np.uint8]) -> NDArray[np.integer[Any]]:
        if bundle is not None:
            return bundle.predict(photo).labels
        return seen_small(heads, unlabelled[name].small, (photo.shape[0], photo.shape[1]))

    seen_by = train[0].folder.name if asked.run is None else content_hash(asked.run / "bundle/card.json")
    photos = {name: one.photo for name, one in unlabelled.items()}
    named = {one.name: photos[one.name] for one in chosen.choices}
    folder = write_prelabels(named, see, seen_by, samples.label_space, asked.out / "next")
    return Batch(chosen, photos, left_out, folder)


# ---- the samples that are trained on --------------------------------------------------------------------------------


def _sound_samples(case: Case, of_run: Asked, out: Path) -> tuple[SampleSet, Path]:
    """The samples that the doctor holds for sound, and the folder of what is trained on them: one for each content."""
    samples = samples_of(of_run)
    if case.space is None or case.space.names != samples.label_space.names:
        raise UsageError(
            "the classes are those of the label maps that are sound",
            case.space_error or f"others among all: {', '.join(samples.label_space.names)}",
            f"fullconv study {of_run.data} --out {out}, mend what it finds, then study the mended copy",
        )
    sound = {one.name: one for one in case.samples.values() if not too_thin(one.size)}
    train, val = (tuple(sound[one.name] for one in part if one.name in sound) for part in (samples.train, samples.val))
    maps = list(dict.fromkeys(source_of(one.label_map) for one in (*train, *val)))
    splits = {"train": [[one.name, one.turn] for one in train], "val": [[one.name, one.turn] for one in val]}
    space = samples.label_space.to_json()
    key = content_hash(of_run.seed, space, splits, dict(samples.contents), *small_code(), *map(str, maps), *maps)
    return replace(samples, train=train, val=val), out / "small" / key[:12]


def _check_enough(samples: SampleSet, asked: Questions) -> None:
    if len(samples.train) >= FEWEST and (samples.val or not (asked.value or asked.curve)):
        return
    raise UsageError(
        f"--value, --curve and --next train on at least {FEWEST} samples of train; the first two measure on val",
        f"{len(samples.train)} of train, {len(samples.val)} of val, in {samples.root}",
        "add samples, or say which are val: --splits FILE",
    )


def _folder_of_photos(out: Path) -> Path:
    """Of what small networks see of photos that have no label map, whatever the samples are."""
    return out / "small" / f"photos-{content_hash(*small_code())[:12]}"


def small_code() -> list[str | Path]:
    """What names the code that trains small networks."""
    return [code_version(), *(Path(str(module.__file__)) for module in (check, growth, small, small_folds))]
