"""The plan: each decision follows from its evidence, and the time is kept."""

from __future__ import annotations

import time

import pytest

from fullconv.data.fingerprint import ClassPrint, Fingerprint
from fullconv.train.clock import Clock
from fullconv.train.plan import (
    COMBINATIONS,
    Measured,
    Question,
    make_plan,
    plan_again,
    plan_class_aware,
    plan_crop,
    plan_of,
    plan_seconds,
    to_json,
)


def seen(
    sizes: tuple[tuple[tuple[int, int], int], ...],
    shares: tuple[float, ...] = (0.9, 0.1),
    background: float | None = None,
) -> Fingerprint:
    classes = tuple(ClassPrint(i, f"c{i}", 1, share, 1, 1, {}) for i, share in enumerate(shares))
    return Fingerprint(sum(photos for _, photos in sizes), sizes, 1, 0.0, classes, {}, background)


def rows(speeds: tuple[float, float, float, float], batches: dict[int, float]) -> list[Measured]:
    first = [Measured(p, c, 4, (192, 192), speed, 1, 1) for (p, c), speed in zip(COMBINATIONS, speeds, strict=True)]
    return first + [Measured("bf16", True, batch, (320, 320), speed, 1, 1) for batch, speed in batches.items()]


def question(**changes: object) -> Question:
    fields = {
        "stages": ("classifier", "32s", "16s"),
        "recipe": "modern",
        "weights": "embedded",
        "minutes": 20.0,
        "steps": None,
        "classifier_items": "windows",
        "device": "cpu",
        "cores": 2,
    }
    return Question(**(fields | changes))  # type: ignore[arg-type]


MEASURED = rows((5.0, 7.0, 6.0, 9.0), {8: 9.0, 16: 9.5})


def planned(**changes: object) -> dict[str, object]:
    asked = question(**changes)
    fingerprint = seen((((360, 480), 9),))
    decisions = make_plan(asked, fingerprint, MEASURED, window=(224, 224), seconds_to_measure=30.0)
    return to_json(asked, decisions, MEASURED, key="k")


@pytest.mark.parametrize(("short", "crop"), [(360, 320), (192, 160), (2000, 320), (40, 64), (100, 64)])
def test_the_crop_is_the_largest_multiple_of_32_that_most_photos_hold(short: int, crop: int) -> None:
    assert plan_crop(seen((((short, 500), 3), ((4000, 4000), 2)))).value == [crop, crop]


@pytest.mark.parametrize(("shares", "aware"), [([0.6, 0.4], 0.0), ([0.9, 0.09, 0.01, 0.0], 0.2)])
def test_crops_look_for_classes_where_some_are_rare(shares: list[float], aware: float) -> None:
    assert plan_class_aware(shares).value == aware


def test_the_fastest_combination_is_chosen() -> None:
    values = {d["name"]: d["value"] for d in planned()["decisions"]}  # type: ignore[attr-defined]
    assert (values["precision"], values["channels_last"], values["batch"]) == ("bf16", True, 16)


@pytest.mark.parametrize(("half", "precision"), [(9.3, "fp32"), (9.6, "bf16")])
def test_bf16_must_be_clearly_faster(half: float, precision: str) -> None:
    measured = rows((5.0, 9.0, 6.0, half), {8: 8.0, 16: 9.0})
    decisions = make_plan(question(), seen((((360, 480), 9),)), measured, window=(224, 224), seconds_to_measure=1.0)
    assert next(d.value for d in decisions if d.name == "precision") == precision


def test_where_bf16_was_not_tried_the_plan_says_why() -> None:
    fp32 = [row for row in MEASURED[:4] if row.precision == "fp32"] + MEASURED[4:]
    decisions = make_plan(question(), seen((((360, 480), 9),)), fp32, window=(224, 224), seconds_to_measure=30.0)
    made = {one.name: one for one in decisions}
    assert (made["precision"].value, made["channels_last"].value) == ("fp32", True)
    assert made["precision"].evidence == (
        "images a second: fp32 5.0; fp32 channels-last 7.0; bf16 not tried, there are no instructions for it"
    )


@pytest.mark.parametrize(("faster", "batch", "rate"), [(10.0, 16, 4e-3), (12.0, 8, 2.83e-3)])
def test_another_batch_must_be_clearly_faster_and_has_its_own_rate(faster: float, batch: int, rate: float) -> None:
    measured = rows((5.0, 7.0, 6.0, 9.0), {8: faster, 16: 9.0})
    decisions = make_plan(question(), seen((((360, 480), 9),)), measured, window=(224, 224), seconds_to_measure=1.0)
    taken = plan_of(to_json(question(), decisions, measured, key="k"), question()).recipes["32s"]
    assert (taken.batch, taken.rate) == (batch, pytest.approx(rate, rel=1e-2))


def test_the_seconds_of_all_stages_and_of_measuring_fill_the_minutes() -> None:
    values = {d["name"]: d["value"] for d in planned()["decisions"]}  # type: ignore[attr-defined]
    planned_seconds = sum(values[f"{stage}.seconds"] for stage in question().stages)
    assert planned_seconds + values["reserve"] == pytest.approx(20 * 60, rel=0.02)


def test_steps_follow_from_seconds_and_speed() -> None:
    values = {d["name"]: d["value"] for d in planned()["decisions"]}  # type: ignore[attr-defined]
    assert values["32s.steps"] == pytest.approx(values["32s.seconds"] * 9.5 * 0.9 / 16, rel=0.02)


def test_a_recipe_of_whole_photos_has_no_decisions_about_crops() -> None:
    of_crops = {"crop", "class_aware", "batch", "dropout", "pretrained_rate"}
    names = {name: {d["name"] for d in planned(recipe=name)["decisions"]} for name in ("modern", "paper")}  # type: ignore[attr-defined]
    assert names["modern"] - names["paper"] == of_crops


def test_steps_asked_for_are_kept() -> None:
    plan = plan_of(planned(steps=7), question(steps=7))
    assert {stage: recipe.steps for stage, recipe in plan.recipes.items()} == {"classifier": 7, "32s": 7, "16s": 7}
    assert plan.seconds == {}


@pytest.mark.parametrize(("background", "rate", "dropout"), [(None, 0.12, 0.0), (0.7, 0.03, 0.2)])
def test_objects_before_a_background_are_learned_gently_and_without_some_channels(
    background: float | None, rate: float, dropout: float
) -> None:
    fingerprint = seen((((360, 480), 9),), background=background)
    decisions = make_plan(question(), fingerprint, MEASURED, window=(224, 224), seconds_to_measure=1.0)
    recipes = plan_of(to_json(question(), decisions, MEASURED, key="k"), question()).recipes
    assert {stage: one.pretrained_rate for stage, one in recipes.items()} == {
        "classifier": 0.02,
        "32s": rate,
        "16s": rate,
    }
    assert {stage: one.dropout for stage, one in recipes.items()} == {"classifier": 0, "32s": dropout, "16s": dropout}
    assert {stage: one.optimiser for stage, one in recipes.items()} == {
        "classifier": "adamw",
        "32s": "muon",
        "16s": "muon",
    }


def test_random_weights_learn_at_the_full_rate_and_may_begin_by_guessing() -> None:
    usual = plan_of(planned(), question()).recipes
    assert all(one.pretrained_rate < 1 and one.stops_flat for one in usual.values())
    random = plan_of(planned(weights="none"), question(weights="none")).recipes
    assert sum(d["name"] == "pretrained_rate" for d in planned(weights="none")["decisions"]) == 1  # type: ignore[attr-defined]
    assert all(one.pretrained_rate == 1 and not one.stops_flat for one in random.values())
    assert all(one.head_first == one.pretrained_warm_up == 0 for one in random.values())


def test_the_paper_recipe_takes_whole_photos_at_its_own_rates() -> None:
    plan = plan_of(planned(recipe="paper"), question(recipe="paper"))
    assert plan.recipes["32s"].crop is None
    assert plan.recipes["16s"].rate == pytest.approx(plan.recipes["32s"].rate / 100)


def test_shares_add_up() -> None:
    seconds = plan_seconds(("classifier", "32s", "16s", "8s"), seconds=100.0, classifier_share=0.2)
    assert seconds == {"classifier": 20.0, "32s": 40.0, "16s": 20.0, "8s": 20.0}


def test_planning_again_fills_what_is_left() -> None:
    assert plan_again(10, [1.0, 2.0, 3.0], 100.0) == 60
    assert plan_again(10, [1.0, 2.0, 50.0], 90.0) == 40, "a stall counts as three usual steps"


def test_planned_again_on_a_steady_machine_each_stage_keeps_its_share() -> None:
    """Two looks on the way, at a tenth and at half: nothing is taken from the stages that follow."""
    shares, began, spent = {"classifier": 8.0, "32s": 46.0, "16s": 23.0, "8s": 23.0}, time.monotonic(), 0.0
    for name, share in shares.items():
        done = 0.0
        for look in (0.1, 0.5, 1.0):
            clock = Clock(began + 110 - spent - done, 10.0, shares)  # as if `spent + done` seconds had passed
            left = clock.seconds_left(name, spent=done)
            assert done + left == pytest.approx(share, abs=0.2)
            done = look * (done + left)
        spent += done


def test_the_clock_shares_what_is_left_with_later_stages() -> None:
    clock = Clock(time.monotonic() + 110, 10.0, {"classifier": 5.0, "32s": 30.0, "16s": 10.0})
    assert clock.seconds_left("32s") == pytest.approx(75, abs=1)
    assert clock.seconds_left("16s") == pytest.approx(100, abs=1)
    assert Clock(time.monotonic() - 50, 10.0, {"16s": 1.0}).seconds_left("16s") == 1.0
