"""The report of a run: what it says, what it leaves out, and how a browser takes it."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.report.browser import browse, framed

from fullconv.base.files import read_json, write_json
from fullconv.report.charts import loss_curve
from fullconv.report.pages import write_report
from fullconv.report.pictures import WRONG, Example, coloured, error_map
from fullconv.report.reading import read_run
from fullconv.report.words import duration, learned, listed, signed, span, text, tiny

VOID_ELEMENTS = {"meta", "link", "img", "br", "path", "circle"}
SECTIONS = ("stages", "classes", "confusion", "samples", "curves", "classifier", "proof", "data", "plan", "run")


STUDY = "study/study.html"  # the one link: it lies in the run's folder


class Page(HTMLParser):
    """Collects ids, addresses and text; notes tags that are closed in the wrong order."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.faults: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset", "action") and value]
        if tag not in VOID_ELEMENTS:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID_ELEMENTS:
            return
        if not self.open or self.open.pop() != tag:
            self.faults.append(tag)

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += data


def page_of(folder: Path, examples: list[Example]) -> Page:
    return Page(write_report(folder, examples).read_text(encoding="utf-8"))


def test_a_whole_run_shows_every_section_and_is_well_formed(run_folder: Path, examples: list[Example]) -> None:
    page = page_of(run_folder, examples)
    assert page.ids == list(SECTIONS)
    assert page.faults == []
    assert page.open == []


def test_the_study_is_linked_with_what_it_found(run_folder: Path, examples: list[Example]) -> None:
    page = page_of(run_folder, examples)
    assert "2 findings about the samples, 1 about what costs precision or recall" in page.text
    (run_folder / "study" / "study.json").unlink()
    assert STUDY not in page_of(run_folder, examples).addresses


def test_the_page_asks_for_nothing_outside_itself(run_folder: Path, examples: list[Example]) -> None:
    source = write_report(run_folder, examples).read_text(encoding="utf-8")
    page = Page(source)
    assert {re.split("[:,]", address)[0] for address in page.addresses if address[0] != "#"} == {"data", STUDY}
    assert {address[1:] for address in page.addresses if address[0] == "#"} == set(SECTIONS)
    assert "script" not in page.tags
    assert "url(" not in source
    assert "@import" not in source
    assert "http" not in re.sub(r"base64,[^\"]*", "", source)


def test_pictures_are_whole_and_the_page_stays_small(run_folder: Path) -> None:
    rng = np.random.default_rng(0)
    big = [
        Example(f"big {index}", rng.integers(0, 255, (900, 1200, 3), np.uint8), labels, labels, 0.5)
        for index, labels in enumerate([np.zeros((900, 1200), np.uint8)] * 9)
    ]
    path = write_report(run_folder, big)
    pictures = [address for address in Page(path.read_text()).addresses if address.startswith("data:image")]
    assert len(pictures) == 36
    assert path.stat().st_size < 4_000_000


def test_figures_stand_in_the_tables(run_folder: Path, examples: list[Example]) -> None:
    words = " ".join(page_of(run_folder, examples).text.split())
    scores = read_json(run_folder / "sharp" / "scores.json")
    for row in scores["classes"][:6]:
        ends = " to ".join(f"{end:.3f}" for end in row["iou_interval"])
        assert f"{row['name']} " in words
        for figure in (row["precision"], row["recall"], row["iou"]):
            assert f"{figure:.3f}" in words
        assert ends in words
    for needed in ("nearest colour", "0.161", "+0.151", "cannot be decoded", "--head 8s", "4.1e-06", "Best", "Worst"):
        assert needed in words


def test_the_paragraph_is_made_from_the_figures(run_folder: Path) -> None:
    run = read_run(run_folder)
    scores = run.scores
    ranked = sorted((row for row in scores["classes"] if row["iou"] is not None), key=lambda row: row["iou"])
    said = learned(run)
    assert said.startswith("From 120 labelled photos, a segmenter for 7 classes was trained in ")
    assert f"a mean IoU of {scores['mean_iou']:.3f}" in said
    assert f"{ranked[0]['name']} ({ranked[0]['iou']:.2f}) least" in said
    assert "Not scored, since they do not occur: absent thing." in said
    assert "same scores up to 3.2e-07" in said
    assert "Stage sharp changed the mean IoU by +0.151 (+0.120 to +0.180)." in said


def test_the_paragraph_names_what_costs_the_weakest_class_most(run_folder: Path) -> None:
    scores = read_json(run_folder / "sharp" / "scores.json")
    names = ["a", "b"]
    base = {"images": 1, "pixels": 10, "iou_interval": [0.1, 0.2]}
    for matrix, precision, recall, expected in (
        ([[90, 0], [6, 4]], 1.0, 0.4, "It misses 60% of b: 60% is taken for a."),
        ([[84, 6], [0, 4]], 0.4, 1.0, "Of what it calls b, 60% is something else, mostly a."),
    ):
        rows = [
            {**base, "id": index, "name": name, "precision": p, "recall": r, "iou": iou}
            for index, (name, p, r, iou) in enumerate(
                zip(names, (0.9, precision), (0.9, recall), (0.9, 0.4), strict=True)
            )
        ]
        write_json(run_folder / "sharp" / "scores.json", scores | {"classes": rows, "confusion": matrix, "absent": []})
        assert expected in learned(read_run(run_folder))


def test_a_stage_that_was_not_kept_is_said_and_not_reported_as_the_result(run_folder: Path) -> None:
    run = read_json(run_folder / "run.json")
    run["stages"][-1]["kept"] = False
    write_json(run_folder / "run.json", run)
    record = read_run(run_folder)
    assert record.final is not None
    assert record.final.name == "32s"
    assert "it was not kept" in learned(record)
    assert "not kept" in page_of(run_folder, []).text


@pytest.mark.parametrize(
    "missing",
    ["run.json", "samples.json", "plan.json", "classifier/scores.json", "classifier/proof.json", "sharp/journal.jsonl"],
)
def test_what_is_missing_is_left_out(run_folder: Path, examples: list[Example], missing: str) -> None:
    (run_folder / missing).unlink()
    page = page_of(run_folder, examples)
    assert page.faults == []
    assert "classes" in page.ids


def test_an_empty_folder_gives_a_page_that_says_so(tmp_path: Path) -> None:
    page = page_of(tmp_path, [])
    assert page.ids == []
    assert "Nothing has been measured yet" in page.text


def test_files_cut_off_by_a_kill_are_as_good_as_missing(run_folder: Path) -> None:
    (run_folder / "plan.json").write_text('{"decisions": [')
    with open(run_folder / "sharp" / "journal.jsonl", "a") as journal:
        journal.write('{"event": "st')
    page = page_of(run_folder, [])
    assert "plan" not in page.ids
    assert "1,500" in page.text


def test_a_converted_classifier_that_was_not_trained_is_no_stage(run_folder: Path) -> None:
    for name in ("scores.json", "journal.jsonl"):
        (run_folder / "classifier" / name).unlink()
    assert [stage.name for stage in read_run(run_folder).stages] == ["32s", "sharp"]
    assert "proof" in page_of(run_folder, []).ids


def test_names_from_files_are_text_and_never_markup(run_folder: Path, examples: list[Example]) -> None:
    hostile = "<script>alert(1)</script>"
    samples = read_json(run_folder / "samples.json")
    samples["notes"] = [hostile]
    write_json(run_folder / "samples.json", samples)
    path = write_report(run_folder, [replace(examples[0], name=hostile)])
    assert "script" not in Page(path.read_text()).tags
    assert html.escape(hostile) in path.read_text()


def test_a_loss_that_was_not_a_number_leaves_the_curve_readable() -> None:
    curve = loss_curve([1, 2, 3, 4], [2.0, float("nan"), 1.0, None])
    assert curve is not None
    assert "nan" not in curve.raw + curve.smooth
    assert loss_curve([1, 2], [float("nan"), 1.0]) is None


def test_a_curve_stays_inside_its_frame_and_ends_at_the_last_step() -> None:
    curve = loss_curve(list(range(1, 5001)), [900.0 if step == 2500 else 1 / step for step in range(1, 5001)])
    assert curve is not None
    points = [tuple(map(float, point.split())) for point in curve.raw[1:].split("L")]
    assert len(points) <= 300
    assert all(40 <= x <= 352 and 10 <= y <= 166 for x, y in points)
    assert curve.x_ticks[-1][1] == "5,000"


def test_steps_are_marked_at_whole_numbers() -> None:
    curve = loss_curve(list(range(1, 13)), [1.0] * 12)
    assert curve is not None
    assert [label for _, label in curve.x_ticks] == ["0", "5", "10"]


def test_the_error_map_marks_wrong_pixels_red_and_hatches_void() -> None:
    truth, guess = np.array([[0, 1, 255, 255]]), np.array([[0, 0, 0, 1]])
    picture = error_map(np.zeros((1, 4, 3), np.uint8), truth, guess, 2)
    assert picture[0, 0].tolist() == [128] * 3
    assert picture[0, 1].tolist() == [int(0.25 * 128 + 0.75 * part) for part in WRONG]
    assert picture[0, 2].tolist() in ([128] * 3, [176] * 3)
    assert coloured(truth, ["#010203", "#040506"])[0, :2].tolist() == [[1, 2, 3], [4, 5, 6]]


def test_figures_are_written_as_people_read_them() -> None:
    assert [duration(seconds) for seconds in (3.21, 45, 119.7, 1180, 3900)] == [
        "3.2 s",
        "45 s",
        "2 min 0 s",
        "19 min 40 s",
        "1 h 5 min",
    ]
    assert (signed(-0.0213), span([0.1, 0.2]), span([None, None])) == ("−0.021", "0.100 to 0.200", "")
    assert (tiny(0.0), tiny(2.13e-6), tiny(0.8123)) == ("0", "2.1e-06", "0.812")
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert [text(value) for value in ([320, 480], [], True, None, 0.123456)] == [
        "320 × 480",
        "none",
        "yes",
        "none",
        "0.1235",
    ]


# --- in a browser ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [390, 1400])
def test_nothing_sticks_out_at_a_phone_s_and_a_wide_width(
    run_folder: Path, examples: list[Example], tmp_path: Path, width: int
) -> None:
    page = write_report(run_folder, examples)
    printed, console = browse(framed(page, width, 900), tmp_path / "home", "--dump-dom", "--virtual-time-budget=5000")
    found = re.search(r'<pre id="out">(.*?)</pre>', printed)
    assert found, printed[-2000:]
    scroll_width, sticking_out, broken, pictures = json.loads(html.unescape(found[1]))
    assert sticking_out == []
    assert scroll_width <= width
    assert (broken, pictures) == (0, 24)
    assert console == ""


def test_forty_classes_of_long_names_fit_a_phone_too(run_folder: Path, tmp_path: Path) -> None:
    names = [f"a-rather-long-name-of-a-class-{index}" for index in range(40)]
    row = {"images": 1, "pixels": 10, "precision": 0.5, "recall": 0.5, "iou": 0.4, "iou_interval": [0.3, 0.5]}
    scores = read_json(run_folder / "sharp" / "scores.json")
    rows = [{"id": index, "name": name, **row} for index, name in enumerate(names)]
    many = scores | {"classes": rows, "confusion": np.full((40, 40), 3).tolist(), "absent": names}
    write_json(run_folder / "sharp" / "scores.json", many)
    page = write_report(run_folder, [])
    printed, _ = browse(framed(page, 390, 900), tmp_path / "home", "--dump-dom", "--virtual-time-budget=5000")
    found = re.search(r'<pre id="out">(.*?)</pre>', printed)
    assert found
    assert json.loads(html.unescape(found[1]))[:2] == [390, []]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_renders_in_light_and_dark_without_a_word_in_the_console(
    run_folder: Path, examples: list[Example], tmp_path: Path, scheme: str
) -> None:
    page, shot = write_report(run_folder, examples), tmp_path / "shot.png"
    dark = ["--blink-settings=preferredColorScheme=0"] if scheme == "dark" else []
    _, console = browse(page, tmp_path / "home", f"--screenshot={shot}", "--window-size=1400,1600", *dark)
    grey = np.asarray(Image.open(shot).convert("L"))
    assert console == ""
    assert np.ptp(grey) > 150
    assert (np.median(grey) < 60) == (scheme == "dark")


def test_a_word_in_the_console_would_be_noticed(tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text("<script>console.error('told you')</script>")
    assert "told you" in browse(page, tmp_path / "home", "--dump-dom")[1]
