"""`fullconv convert`: a classifier becomes fully convolutional, with the proof. Road: cli."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fullconv.base.errors import BundleError, SurgeryError
from fullconv.cli.models import SIZE, model_options, prints_aside

if TYPE_CHECKING:
    from fullconv.nets.classifiers import Classifier
    from fullconv.nets.proof import Proof
    from fullconv.nets.surgery import Converted

MOST_PHOTOS = 8


@click.command("convert")
@click.argument("model")
@click.option("--window", type=SIZE, default=None, help="Training size: N or HxW.  [default: the model's own]")
@model_options
@click.option("--photos", type=click.Path(path_type=Path), default=None, help="A photo or a folder: proven on these.")
@click.option(
    "--pooling",
    type=click.Choice(["window", "cell"]),
    default="window",
    show_default=True,
    help="What a cell scores: one window, or itself.",
)
@click.option(
    "--context",
    type=click.Choice(["global", "window"]),
    default="global",
    show_default=True,
    help="What poolings over the whole map inside the body see.",
)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder for the result.")
@click.option("--json", "as_json", is_flag=True, help="Print proof.json on stdout and nothing else there.")
def command(
    model: str,
    window: tuple[int, int] | None,
    weights: str | None,
    class_names: Path | None,
    preparation: Path | None,
    photos: Path | None,
    pooling: str,
    context: str,
    out: Path,
    as_json: bool,
) -> None:
    """Make the classifier MODEL fully convolutional and prove that it still says the same.

    Written to --out: card.json and program.pt2 (loads without the classifier's own code), proof.json, proof.png (both
    drawn side by side). Where the converted network does not equal the classifier at the window, only the proof is
    written, and the exit code is 1.
    """
    from fullconv.base.files import write_json
    from fullconv.cli.models import chosen_classifier
    from fullconv.nets.proof import prove
    from fullconv.nets.surgery import convolutionalize

    with prints_aside(as_json):
        classifier = chosen_classifier(
            model,
            weights=weights,
            class_names=class_names,
            preparation=preparation,
            window=window,
            random_is_enough=True,
        )
        converted = convolutionalize(classifier.network, classifier.window, pooling=pooling, context=context)
        pictures = prepared_photos(photos, classifier, converted) if photos else None
        proof = prove(classifier.network, converted, photos=pictures)
        check_finite(classifier, proof)
        write_json(out / "proof.json", proof.to_json())
        draw(classifier, converted, pictures, out / "proof.png")
        held = save(classifier, converted, out) if proof.holds else "proof.json, proof.png; the network was not written"
    saved = f"{out} holds {held}"
    click.echo(json.dumps(proof.to_json(), indent=2) if as_json else in_words(classifier, proof, saved))
    if not proof.holds:
        raise not_equal(classifier, proof)


def save(classifier: Classifier, converted: Converted, out: Path) -> str:
    """Write the network if its steps can be written. Returns: what the folder then holds, in words."""
    from fullconv.nets.converted import save_converted

    try:
        save_converted(
            converted,
            out,
            name=classifier.name,
            preparation=classifier.preparation,
            class_names=classifier.class_names,
        )
        return "card.json, program.pt2, proof.json, proof.png"
    except BundleError as error:
        return f"proof.json, proof.png; the network was not written: {error.found}"


def check_finite(classifier: Classifier, proof: Proof) -> None:
    """Raises: SurgeryError where scores are no numbers, so that nothing can be compared."""
    from math import isfinite

    dense = 0.0 if proof.dense is None else proof.dense.relative_difference
    if not (isfinite(proof.at_window.relative_difference) and isfinite(dense)):
        raise SurgeryError(
            "the scores of a classifier are finite numbers",
            f"{classifier.name} ({classifier.weights}) gives NaN or infinity",
            "other weights, or the --preparation that it was trained with",
        )


def not_equal(classifier: Classifier, proof: Proof) -> SurgeryError:
    from fullconv.nets.proof import TOLERANCE

    return SurgeryError(
        "the converted network equals its classifier at the window",
        f"{classifier.name} at {by(proof.window)}: relative difference {proof.at_window.relative_difference:.1e}, "
        f"more than {TOLERANCE:g}",
        "report it, with the code of the classifier",
    )


def prepared_photos(path: Path, classifier: Classifier, converted: Converted) -> list[Any]:
    """Prepared photos, each enlarged until it holds a window and two strides more."""
    from math import ceil

    from fullconv.base.images import read_photo
    from fullconv.cli.predict import find_photos
    from fullconv.dense.scales import resized

    least = [w + 2 * ceil(s) for w, s in zip(converted.window, converted.geometry.stride, strict=True)]
    found = []
    for file in find_photos([str(path)])[:MOST_PHOTOS]:
        photo = read_photo(file)
        factor = max(1.0, *((side + 0.5) / photo.shape[i] for i, side in enumerate(least)))
        found.append(classifier.preparation.prepare(resized(photo, factor)))
    return found


def draw(classifier: Classifier, converted: Converted, pictures: list[Any] | None, path: Path) -> None:
    """The first photo: its windows, what both ways say of each, and where they differ."""
    import numpy as np

    from fullconv.base.files import write_bytes
    from fullconv.nets.proof import compared, two_strides_larger
    from fullconv.predict.outputs import encoded
    from fullconv.report.proof_sheet import proof_sheet

    picture = pictures[0] if pictures else two_strides_larger(classifier.network, converted)[0]
    both = compared(classifier.network, converted, picture)
    drawn = proof_sheet(picture, both, converted, classifier.class_names, title=classifier.name)
    write_bytes(path, encoded(np.array(drawn), "PNG"))


def in_words(classifier: Classifier, proof: Proof, saved: str) -> str:
    """The proof in a dozen lines."""
    from fullconv.nets.proof import TOLERANCE

    at, dense, record = proof.at_window, proof.dense, proof.to_json()
    seen = by(record["receptive_field"]) if record["receptive_field"] else "the whole photo"
    grid = f"a score every {by(record['stride'])} pixels, the first at {by(record['offset'])}; each sees {seen}"
    equal = "equal" if proof.holds else "NOT EQUAL"
    rounding = f"largest {at.largest_difference:.2g}; equal to rounding below {TOLERANCE:g}"
    lines = [
        f"{classifier.name}: {classifier.weights}",
        f"window {by(proof.window)}; {grid}",
        f"at the window: {equal}, {at.images} photos; relative difference {at.relative_difference:.1e} ({rounding})",
    ]
    if dense is not None:
        where = f"{dense.windows} windows (photo {by(dense.size)}, grid {by(dense.grid)})"
        agreeing = f"the same class first in {dense.top1_agreement:.0%}"
        lines.append(f"one pass beside {where}: relative difference {dense.relative_difference:.1e}, {agreeing}")
        lines.append(f"  why: {dense.why}")
    if (spent := proof.seconds).dense and spent.windows:
        times = spent.windows / spent.dense
        lines.append(
            f"seconds: {spent.dense:.2f} in one pass, {spent.windows:.2f} window by window ({times:.1f} times)"
        )
    if (held := proof.peak_bytes).dense and held.windows:
        lines.append(f"memory: {held.dense / 1e6:,.0f} MB in one pass, {held.windows / 1e6:,.0f} MB window by window")
    counts = [f"{len(names)} {word}" for word, names in record["account"].items() if names]
    return "\n".join([*lines, f"weights: {', '.join(counts)}", saved])


def by(pair: Any) -> str:
    """Rows x columns, or one number where they are alike."""
    return f"{pair[0]}" if pair[0] == pair[1] else f"{pair[0]}x{pair[1]}"
