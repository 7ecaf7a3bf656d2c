"""Write a study: its page, one self-contained file, and the same as JSON. Road: report. In: a case and findings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fullconv.base.errors import FullconvError
from fullconv.base.files import write_json, write_text
from fullconv.base.images import read_photo
from fullconv.labels.builtin import VOC_PALETTE
from fullconv.labels.decode import decode
from fullconv.labels.maps import read_label_map
from fullconv.labels.space import LabelSpace
from fullconv.report import words
from fullconv.report.charts import Band, band_chart
from fullconv.report.pages import TEMPLATES, templates
from fullconv.report.pictures import Picture, jpeg_uri
from fullconv.study.case import Case
from fullconv.study.document import Answers, study_json
from fullconv.study.findings import SEVERITIES, Finding
from fullconv.study.repairs import fixes_json
from fullconv.study.suspects import Suspect, WrongLabels

if TYPE_CHECKING:  # what trains, and with it torch
    from fullconv.study.prelabels import Batch
    from fullconv.study.value import Worth

MOST_SHOWN = 12  # samples of one finding
MOST_PAIRS_SHOWN = 6
MOST_VALUED = 6
MOST_TO_LABEL = 24
MOST_NAMED = 400
LONGEST_PX = 240
_LEAST_PX = 96  # of a suspect and its surroundings
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


@dataclass(frozen=True)
class Wrong:
    """A suspect as the page shows it: its surroundings as data URIs, of photo, label map and what the network sees."""

    suspect: Suspect
    given: str
    likely: str
    photo: str
    labels: str
    guess: str


@dataclass(frozen=True)
class ToLabel:
    """A photo to label next as the page shows it: data URIs of the photo, its parts outlined, and of its pre-label."""

    caption: dict[str, Any]
    photo: str
    labels: str


def write_study(
    out: Path, case: Case, findings: Sequence[Finding], answers: Answers | None = None, **more: Any
) -> dict[str, Any]:
    """Write study.html, study.json and fixes.json.

    Args:
        out: the study's folder.
        answers: what was asked beyond the findings.
        more: what study.json holds besides.
    Returns: study.json.
    """
    answers = answers or Answers()
    document = study_json(case, findings, answers, out) | more
    write_json(out / "study.json", document)
    write_text(out / "study.html", _page(case, findings, answers, document))
    write_json(out / "fixes.json", fixes_json(case, findings))
    return document


def _page(case: Case, findings: Sequence[Finding], answers: Answers, document: dict[str, Any]) -> str:
    environment = templates()
    environment.filters.update(
        {of.__name__: of for of in (words.three, words.percent, words.signed, words.points, words.span)}
    )
    sections = [_section(case, finding) for finding in findings]
    suspected = [] if answers.wrong is None else _wrong(case, answers.wrong)
    valued = [] if answers.worth is None else _valued(case, answers.worth)
    to_label = [] if answers.batch is None else _to_label(case, answers.batch, document["label_next"])
    shown = sorted(
        {name for one in sections for sample in _all(one) for name in sample.classes}
        | {name for one in suspected for name in (one.given, one.likely)}
        | {name for _, several in valued for sample, _ in several for name in sample.classes}
        | {name for one in to_label for name in one.caption["classes"]}
    )
    return environment.get_template("study.html.j2").render(
        name=case.root.name,
        style=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
        lead=_lead(case, findings, 0 if answers.wrong is None else len(answers.wrong.doubtful)),
        tiles=_tiles(case, findings),
        sections=sections,
        asked_networks=answers.wrong is not None,
        suspected=suspected,
        valued=valued,
        to_label=to_label,
        curve=_curve(document["learning_curve"]) if "learning_curve" in document else None,
        severities=[severity for severity in SEVERITIES if any(one.severity == severity for one in findings)],
        shown_classes=shown,
        document=document,
        colours=["#{:02x}{:02x}{:02x}".format(*colour) for colour in (case.space.colours if case.space else ())],
        most_named=MOST_NAMED,
    )


def _lead(case: Case, findings: Sequence[Finding], doubtful: int) -> str:
    usable = f"{len(case.samples):,} of {words.count(len(case.looks), 'sample')} can be used."
    number = {severity: sum(one.severity == severity for one in findings) for severity in SEVERITIES}
    said = []
    if number["stop"]:
        said.append(words.count(number["stop"], "finding would stop training", "findings would stop training"))
    if number["harm"]:
        said.append(
            words.count(number["harm"], "finding costs precision or recall", "findings cost precision or recall")
        )
    wrong = f" {words.count(doubtful, 'label map')} may be wrong." if doubtful else ""
    if not said:
        return f"{usable} Nothing was found in the files that would harm training.{wrong}"
    return f"{usable} {words.listed(said)}; the others are good to know.{wrong}"


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


def _wrong(case: Case, wrong: WrongLabels) -> list[Wrong]:
    """The likeliest error of each sample, with half its size around it."""
    assert case.space is not None
    names = case.space.names
    places = {name: place for place, name in enumerate(case.names)}
    shown = []
    for one in wrong.shown:
        photo, labels = case.samples[places[one.sample]].read()
        around = _around(one.box, labels.shape)
        pictures = [
            _outlined(_small(picture, Image.Resampling.BOX), one.box, around)
            for picture in (
                photo[around],
                *(
                    _over(photo[around], _coloured(case.space, ids[around]))
                    for ids in (labels, wrong.guesses[one.sample])
                ),
            )
        ]
        shown.append(Wrong(one, names[one.given], names[one.likely], *map(jpeg_uri, pictures)))
    return shown


def _valued(case: Case, worth: Worth) -> list[tuple[str, list[tuple[Shown, float]]]]:
    """The samples that raise the mean IoU most, and those that lower it, each with its effect."""
    effects = worth.values.mean(0)[:, list(worth.agreement).index("iou")].mean(-1)
    places = {name: place for place, name in enumerate(case.names)}
    order = np.argsort(effects)
    ends = (("raise it most", order[::-1][:MOST_VALUED]), ("lower it most", order[:MOST_VALUED]))
    return [
        (what, [(_shown(case, places[worth.names[one]]), float(effects[one])) for one in several])
        for what, several in ends
    ]


def _to_label(case: Case, batch: Batch, label_next: dict[str, Any]) -> list[ToLabel]:
    """The first photos of the batch, with what is written to begin with."""
    assert case.space is not None
    space = case.space.as_written()
    shown = []
    for caption in label_next["photos"][:MOST_TO_LABEL]:
        photo = _small(read_photo(batch.photos[caption["name"]]), Image.Resampling.BOX)
        labels = read_label_map(batch.folder / "masks" / f"{caption['name']}.png", space)
        height, width = photo.shape[:2]
        whole = (slice(0, height), slice(0, width))
        outlined = photo
        for top, left, bottom, right in caption["parts"]:
            box = (round(top * height), round(left * width), round(bottom * height), round(right * width))
            outlined = _outlined(outlined, box, whole)
        over = _over(photo, _small(_coloured(space, labels), Image.Resampling.NEAREST))
        shown.append(ToLabel(caption, jpeg_uri(outlined), jpeg_uri(over)))
    return shown


def _curve(growth: dict[str, Any]) -> Band:
    return band_chart(
        [(one["samples"], one["figure"], one["low"], one["high"]) for one in growth["mean_iou"]],
        [(part["samples"], part["mean_iou"]) for part in growth["parts"]],
    )


def _around(box: tuple[int, int, int, int], shape: tuple[int, ...]) -> tuple[slice, slice]:
    """A box with as much around it as it is large, within the photo: at least `_LEAST_PX` wide and high, and the one at
    least half of the other.
    """
    longest = max(_LEAST_PX, box[2] - box[0], box[3] - box[1])
    sides = []
    for first, last, length in ((box[0], box[2], shape[0]), (box[1], box[3], shape[1])):
        margin = max((last - first) // 2, (longest - (last - first)) // 2)
        sides.append(slice(max(0, first - margin), min(length, last + margin)))
    return sides[0], sides[1]


def _outlined(picture: Picture, box: tuple[int, int, int, int], around: tuple[slice, slice]) -> Picture:
    """The picture of `around`, at any size, with the box drawn into it."""
    rows, columns = around
    down, across = picture.shape[0] / (rows.stop - rows.start), picture.shape[1] / (columns.stop - columns.start)
    image = Image.fromarray(picture)
    corners = (
        (box[1] - columns.start) * across,
        (box[0] - rows.start) * down,
        (box[3] - columns.start) * across - 1,
        (box[2] - rows.start) * down - 1,
    )
    draw = ImageDraw.Draw(image)
    draw.rectangle(corners, outline=(0, 0, 0), width=3)
    draw.rectangle(corners, outline=(255, 255, 255), width=1)
    return np.array(image)


def _over(photo: Picture, labels: Picture) -> Picture:
    """Label colours over the photo in grey; both (H, W, 3)."""
    mixed = _LABELS_OVER_PHOTO * labels + (1 - _LABELS_OVER_PHOTO) * photo.mean(2, keepdims=True)
    return np.asarray(mixed.astype(np.uint8))


def _coloured(space: LabelSpace, labels: NDArray[Any]) -> Picture:
    """(H, W, 3): each class in its colour, void in light grey."""
    colours = np.full((space.void + 1, 3), 200, np.uint8)
    colours[: space.size] = np.array(space.colours, np.uint8).reshape(-1, 3)
    return np.asarray(colours[labels])


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
        labels = _over(photo, np.array(Image.fromarray(labels).resize(size, Image.Resampling.NEAREST)))
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
            return _small(_coloured(case.space, case.samples[place].read_labels()), Image.Resampling.NEAREST)
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
