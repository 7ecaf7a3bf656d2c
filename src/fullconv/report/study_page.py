"""Write the page of a study: one self-contained file. Road: report. In: a case and findings. Out: study.html."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image

from fullconv.base.errors import FullconvError
from fullconv.base.files import write_text
from fullconv.base.images import read_photo
from fullconv.labels.builtin import VOC_PALETTE
from fullconv.labels.decode import decode
from fullconv.report import words
from fullconv.report.pages import TEMPLATES, templates
from fullconv.report.pictures import Picture, jpeg_uri
from fullconv.study.case import Case
from fullconv.study.findings import SEVERITIES, Finding

MOST_SHOWN = 12  # samples of one finding
MOST_PAIRS_SHOWN = 6
MOST_NAMED = 400
LONGEST_PX = 240
_LABELS_OVER_PHOTO = 0.62


@dataclass(frozen=True)
class Shown:
    """A sample as the page shows it: pictures as data URIs, empty where a file cannot be read."""

    name: str
    split: str
    classes: tuple[str, ...]
    photo: str
    labels: str


@dataclass(frozen=True)
class Section:
    """A finding with its pictures."""

    finding: Finding
    samples: tuple[Shown, ...]
    pairs: tuple[tuple[Shown, Shown, float], ...]


def write_study_page(path: Path, case: Case, findings: Sequence[Finding], document: dict[str, Any]) -> None:
    """Write the page of a study.

    Args:
        path: of the page.
        document: study.json, whose classes and fix commands are shown.
    """
    environment = templates()
    environment.filters.update(three=words.three, percent=words.percent)
    sections = [_section(case, finding) for finding in findings]
    shown = sorted({name for one in sections for sample in _all(one) for name in sample.classes})
    page = environment.get_template("study.html.j2").render(
        name=case.root.name,
        style=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
        lead=_lead(case, findings),
        tiles=_tiles(case, findings),
        sections=sections,
        severities=[severity for severity in SEVERITIES if any(one.severity == severity for one in findings)],
        shown_classes=shown,
        document=document,
        colours=["#{:02x}{:02x}{:02x}".format(*colour) for colour in (case.space.colours if case.space else ())],
        most_named=MOST_NAMED,
    )
    write_text(path, page)


def _lead(case: Case, findings: Sequence[Finding]) -> str:
    usable = f"{len(case.samples):,} of {words.count(len(case.looks), 'sample')} can be used."
    by_severity = [
        (sum(one.severity == severity for one in findings), word)
        for severity, word in (("stop", "would stop training"), ("harm", "cost precision or recall"))
    ]
    said = [f"{words.count(number, 'finding')} {word}" for number, word in by_severity if number]
    if not said:
        return f"{usable} Nothing was found that would harm training."
    return f"{usable} {words.listed(said)}; the others are good to know."


def _tiles(case: Case, findings: Sequence[Finding]) -> list[tuple[str, str, str]]:
    used = [case.splits[place] for place in case.samples]
    splits = words.listed([f"{used.count(split)} {split}" for split in dict.fromkeys(used)])
    tiles = [("samples to use", f"{len(case.samples):,}", splits)]
    if case.space is not None:
        tiles.append(("classes", str(case.space.size), f"void is {case.space.void}"))
    tiles.append(("findings", str(len(findings)), f"{sum(one.severity != 'note' for one in findings)} of them harm"))
    if case.content is not None and case.content.mean_ceiling[8] is not None:
        tiles.append(("IoU at best, stride 8", words.three(case.content.mean_ceiling[8]), "mean over classes"))
    return tiles


def _section(case: Case, finding: Finding) -> Section:
    places = {name: place for place, name in enumerate(case.names)}
    pairs = [
        (_shown(case, places[one]), _shown(case, places[other]), float(pair["likeness"]))
        for pair in finding.details.get("pairs", [])[:MOST_PAIRS_SHOWN]
        for one, other in [pair["samples"]]
    ]
    named = [] if pairs else [places[name] for name in finding.samples if name in places]
    return Section(finding, tuple(_shown(case, place) for place in named[:MOST_SHOWN]), tuple(pairs))


def _all(section: Section) -> list[Shown]:
    return [*section.samples, *(sample for one, other, _ in section.pairs for sample in (one, other))]


def _shown(case: Case, place: int) -> Shown:
    look = case.looks[place]
    photo = _photo(case, place)
    labels = _labels(case, place)
    names: tuple[str, ...] = ()
    if case.space is not None and case.content is not None and place in case.samples:
        row = case.content.pixels[list(case.samples).index(place)]
        names = tuple(name for name, pixels in zip(case.space.names, row, strict=False) if pixels)
    if photo is not None and labels is not None:
        size = (photo.shape[1], photo.shape[0])
        labels = np.array(Image.fromarray(labels).resize(size, Image.Resampling.NEAREST))
        mixed = _LABELS_OVER_PHOTO * labels + (1 - _LABELS_OVER_PHOTO) * photo.mean(2, keepdims=True)
        labels = mixed.astype(np.uint8)
    return Shown(
        look.pair.name,
        case.splits[place],
        names,
        "" if photo is None else jpeg_uri(photo),
        "" if labels is None else jpeg_uri(labels),
    )


def _photo(case: Case, place: int) -> Picture | None:
    try:
        return _small(read_photo(case.looks[place].pair.photo), Image.Resampling.BOX)
    except FullconvError:
        return None


def _labels(case: Case, place: int) -> Picture | None:
    """The label map in colours: those of the classes where it can be used, else what its file holds."""
    try:
        if place in case.samples and case.space is not None:
            colours = np.full((case.space.void + 1, 3), 200, np.uint8)
            colours[: case.space.size] = np.array(case.space.colours, np.uint8).reshape(-1, 3)
            return _small(colours[case.samples[place].read_labels()], Image.Resampling.NEAREST)
        raw = decode(case.looks[place].pair.label_map)
    except FullconvError:
        return None
    if raw.ids is not None:
        return _small(np.array(VOC_PALETTE, np.uint8)[np.minimum(raw.ids, 255)], Image.Resampling.NEAREST)
    packed = raw.as_colours()
    assert packed is not None
    return _small(
        np.stack([packed >> 16, packed >> 8 & 255, packed & 255], 2).astype(np.uint8), Image.Resampling.NEAREST
    )


def _small(picture: Picture, how: Image.Resampling) -> Picture:
    height, width = picture.shape[:2]
    factor = min(1.0, LONGEST_PX / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.array(Image.fromarray(picture).resize(size, how))
