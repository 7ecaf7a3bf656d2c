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

from fullconv.report.study_page import MOST_SHOWN, write_study_page
from fullconv.study.case import read_case
from fullconv.study.document import study_json
from fullconv.study.rules import findings_of


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
    findings = findings_of(case)
    write_study_page(out / "study.html", case, findings, study_json(case, findings, out))
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
