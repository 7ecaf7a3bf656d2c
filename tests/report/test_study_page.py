"""The page of a study: every finding with its pictures, the filters, and nothing from outside."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.report.browser import browse, framed

from fullconv.report.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, band_chart
from fullconv.report.study_page import MOST_SHOWN, _around, _outlined, write_study
from fullconv.study.case import read_case
from fullconv.study.check import Foretold
from fullconv.study.curve import fit_curve
from fullconv.study.document import Answers
from fullconv.study.growth import Growth
from fullconv.study.rules import findings_of
from fullconv.study.suspects import Suspect, WrongLabels
from fullconv.study.value import Advice, Worth


def folder(root: Path) -> Path:
    for index in range(20):
        rng = np.random.default_rng(index)
        photo = rng.integers(0, 256, (70, 90, 3), dtype=np.uint8)
        labels = np.zeros((70, 90), np.uint8)
        labels[10 + index : 40, 20:60] = 1
        for name, picture in (("images", photo), ("masks", labels)):
            path = root / f"{name}/{index:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(path)
    (root / "masks/03.png").write_bytes(b"")
    for index in range(4, 18):
        Image.new("L", (90, 70)).save(root / f"masks/{index:02d}.png")
    (root / "images/zz.png").write_bytes((root / "images/00.png").read_bytes())
    (root / "masks/zz.png").write_bytes((root / "masks/00.png").read_bytes())
    (root / "classes.txt").write_text("ground\n<b>cat</b>\n")
    return root


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("study")
    case = read_case(folder(out / "data"))
    write_study(out, case, findings_of(case))
    return (out / "study.html").read_text()


def test_every_finding_stands_there_with_why_and_how_to_mend_it(page: str) -> None:
    kinds = re.findall(r'data-kind="(\w+)"', page)
    assert {"unreadable_mask", "exact_duplicate", "single_class_map"} <= set(kinds)
    assert "cannot be decoded" in page or "is an empty file" in page
    assert "--to MENDED" in page
    assert "label map cannot be read" in page


def test_no_finding_shows_more_pictures_than_fit(page: str) -> None:
    for article in page.split("<article")[1:]:
        assert article.count("<figure") <= MOST_SHOWN
    assert "14 samples by name" in page


def test_pictures_are_inside_and_nothing_is_loaded_from_elsewhere(page: str) -> None:
    assert page.count("data:image/jpeg;base64,") > 4
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", page)


def test_names_are_shown_as_they_are_and_not_as_markup(page: str) -> None:
    assert "&lt;b&gt;cat&lt;/b&gt;" in page
    assert "<b>cat</b>" not in page


def test_suspects_are_shown_with_what_the_network_sees(tmp_path: Path) -> None:
    case = read_case(folder(tmp_path / "data"))
    label_map = case.samples[0].read_labels()
    names = ["00", "00", "01", "00"]
    found = [Suspect(name, (10, 20, 40, 60), "swapped", 1, 0, 1200, 0.9 - at / 10) for at, name in enumerate(names)]
    pixels = np.array([[90, 10], [30, 70]])
    wrong = WrongLabels(tuple(found), {"00": 0.1}, ("00",), pixels, dict.fromkeys(names, 1 - label_map.clip(0, 1)))
    document = write_study(tmp_path, case, findings_of(case), Answers(wrong))
    text = (tmp_path / "study.html").read_text()
    section = text.split('id="suspects"')[1].split("</section>")[0]
    assert re.findall(r"swapped · ([0-9.]+) · (\d+)", section) == [("0.900", "00"), ("0.700", "01")]
    assert section.count("data:image/jpeg;base64,") == 3 * 2
    assert "1 label map may be wrong." in text.split('id="suspects"')[0], "the lead says so"
    assert "2 more stand in study.json" in section
    assert "<b>&lt;b&gt;cat&lt;/b&gt;</b>, likely <b>ground</b>" in section
    assert [row["recall"] for row in document["classes"]] == [0.9, 0.7]
    assert [row["precision"] for row in document["classes"]] == [0.75, 0.875]
    assert document["confusions"] == [{"given": "<b>cat</b>", "likely": "ground", "regions": 4, "pixels": 1200 * 4}]


def made_up(names: tuple[str, ...]) -> Answers:
    """The first sample helps and the last harms; twice as many samples bring something."""
    effects = np.linspace(0.01, -0.01, len(names))
    values = np.zeros((4, len(names), 3, 2)) + effects[None, :, None, None]
    values += np.array([-1, 1, -1, 1])[:, None, None, None] * 0.001
    sure = {what: Foretold(0.5, 0.4, 0.6) for what in ("recall", "precision", "iou")}
    worth = Worth(names, values, sure, sure, 48, Advice((names[1],), (names[-1],)), (0.01, -0.002, 0.022))
    sizes, reached = np.array([200, 200, 100, 100]), np.array([0.6, 0.61, 0.5, 0.51])
    curve = fit_curve(sizes, reached)
    falls = fit_curve(sizes, 1 - reached)
    return Answers(None, worth, Growth(sizes, reached, curve, np.array([200, 90]), (curve, None), (falls, None)))


def test_values_and_curves_are_shown_with_their_check_and_their_band(tmp_path: Path) -> None:
    case = read_case(folder(tmp_path / "data"))
    names = tuple(case.names[place] for place in case.samples)
    document = write_study(tmp_path, case, findings_of(case), made_up(names))
    text = (tmp_path / "study.html").read_text()
    section = text.split('id="value"')[1].split("</section>")[0]
    assert "48 trainings" in section
    assert "0.500 (0.400 to 0.600) in recall" in section
    assert "in IoU;" in section
    assert f"Keep {len(names) - 2}, fix 1, drop 1." in section
    assert "+0.010 (95%: −0.002 to +0.022)" in section
    helps, harms = section.split("<h3>")[1:]
    assert helps.index(f"</b> {names[0]} ") < helps.index(f"</b> {names[1]} ")
    assert "<b>−1.000</b>" in harms  # points
    first = document["sample_value"][0]
    assert (first["sample"], first["class"]) == (names[0], "ground")
    middle, low, high = first["effect"]["iou"]
    assert middle == 0.01
    reach = 3.182 * 0.001 * (4 / 3) ** 0.5 / 2  # Student's t of 3 degrees, the deviation of four, root of four
    assert (middle - low, high - middle) == pytest.approx((reach, reach), rel=0.03)  # written with three digits
    assert 'class="band"' in text.split('id="curve"')[1]
    growth = document["learning_curve"]
    assert [row["recall"] is None for row in growth["classes"]] == [False, True]
    recall = growth["classes"][0]["recall"]
    assert recall["more"]["images"] == 400
    assert recall["now"]["figure"] < recall["plan"]["figure"] < recall["more"]["figure"]
    assert 200 < recall["plan"]["images"][0] < 400
    precision = growth["classes"][0]["precision"]
    assert precision["more"]["figure"] < precision["now"]["figure"]
    assert precision["plan"] is None, "more samples are not expected to raise it"
    json.dumps(document, allow_nan=False)


def test_a_band_lies_about_its_curve() -> None:
    band = band_chart([(50, 0.4, 0.3, 0.5), (100, 0.6, 0.5, 0.7)], [(50, 0.41)])
    top, bottom = TOP, HEIGHT - BOTTOM
    at = {y: f"{bottom - (bottom - top) * (y - 0.3) / 0.4:g}" for y in (0.4, 0.5, 0.6, 0.7)}  # from 0.3 to 0.7
    assert band.middle == f"M{LEFT + (WIDTH - LEFT - RIGHT) / 2:g} {at[0.4]}L{WIDTH - RIGHT} {at[0.6]}"
    middle, last = f"{LEFT + (WIDTH - LEFT - RIGHT) / 2:g}", f"{WIDTH - RIGHT}"
    assert (
        band.band == f"M{middle} {bottom}L{last} {at[0.5]}L{last} {at[0.7]}L{middle} {at[0.5]}Z"
    )  # along the low end, back along the high
    assert band.y_ticks[0] == (HEIGHT - BOTTOM, "0.3"), "it begins below the lowest, so that the band is seen"
    assert [label for _, label in band.x_ticks][-1] == "100"


def test_the_surroundings_of_a_box_lie_within_the_photo() -> None:
    assert _around((10, 20, 40, 60), (70, 90)) == (slice(0, 70), slice(0, 88))
    assert _around((0, 0, 2, 2), (1000, 1000)) == (slice(0, 49), slice(0, 49))
    assert _around((300, 500, 700, 510), (1000, 1000)) == (slice(100, 900), slice(305, 705)), "no thin strips"
    picture = np.zeros((35, 44, 3), np.uint8)  # half the size of what is around
    drawn = np.argwhere(_outlined(picture, (10, 20, 40, 60), (slice(0, 70), slice(0, 88)))[..., 0] == 255)
    assert (*drawn.min(0), *drawn.max(0)) == (5, 10, 19, 29)


# --- in a browser ------------------------------------------------------------------------------------------


def written(page: str, tmp_path: Path, script: str = "") -> Path:
    """The page in a file; `script` runs after the page's own, and what it returns is put out."""
    path = tmp_path / "study.html"
    put_out = f"document.getElementById('out').textContent = JSON.stringify(({script})());"
    report = f"<pre id='out'></pre><script>{put_out}</script>"
    path.write_text(page.replace("</body>", (report if script else "") + "</body>"), encoding="utf-8")
    return path


@pytest.mark.parametrize("width", [390, 1400])
def test_nothing_sticks_out_at_a_phone_s_and_a_wide_width(page: str, tmp_path: Path, width: int) -> None:
    frame = framed(written(page, tmp_path), width, 900)
    printed, console = browse(frame, tmp_path / "home", "--dump-dom", "--virtual-time-budget=5000")
    found = re.search(r'<pre id="out">(.*?)</pre>', printed)
    assert found, printed[-2000:]
    scroll_width, sticking_out, broken, _ = json.loads(html.unescape(found[1]))
    assert sticking_out == []
    assert scroll_width <= width
    assert broken == 0
    assert console == ""


def test_findings_and_pictures_can_be_filtered_without_a_server(page: str, tmp_path: Path) -> None:
    script = """() => {
      const seen = s => [...document.querySelectorAll(s)].filter(e => !e.closest("[hidden]")).length;
      const form = document.getElementById("filters"), told = [seen(".finding"), seen(".shown")];
      form.querySelector("[value=note]").checked = false; form.dispatchEvent(new Event("change"));
      told.push(seen(".finding"));
      form.querySelector("[value=note]").checked = true;
      form.elements["kind"].value = "exact_duplicate"; form.dispatchEvent(new Event("change"));
      told.push(seen(".finding"), document.getElementById("count").textContent);
      form.elements["kind"].value = "";
      form.elements["class"].value = "<b>cat</b>"; form.dispatchEvent(new Event("change"));
      told.push(seen(".shown"));
      return told;
    }"""
    printed, console = browse(written(page, tmp_path, script), tmp_path / "home", "--dump-dom")
    found = re.search(r"""<pre id=["']out["']>(.*?)</pre>""", printed)
    assert found, printed[-2000:]
    all_findings, all_pictures, without_notes, of_kind, said, of_class = json.loads(html.unescape(found[1]))
    assert all_findings == page.count("<article")
    assert all_pictures == page.count("<figure")
    assert 0 < without_notes < all_findings
    assert (of_kind, said) == (1, "1 finding")
    assert 0 < of_class < all_pictures
    assert console == ""
