"""`fullconv predict`: label maps and pictures of new photos. Road: cli."""

from __future__ import annotations

import glob
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fullconv.base.errors import DiskFull, FullconvError, Unwritable, UsageError
from fullconv.cli.models import precision_option

if TYPE_CHECKING:
    from fullconv.nets.bundle import Bundle


@click.command("predict")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder for what is written."
)
@click.option("--scores", is_flag=True, help="Also write the scores (npz) and one picture of them a class.")
@precision_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, nothing else.")
def command(bundle: Path, images: tuple[str, ...], out: Path, scores: bool, precision: str, as_json: bool) -> int:
    """Segment photos with BUNDLE, each at its own size.

    IMAGE is a file, a folder (the photos in it) or a pattern in quotes ('day1/*.jpg', '**/*.png'). For street.jpg:
    street.png holds the class ids, street_overlay.jpg shows them on the photo. A photo that cannot be read is named and
    skipped; the exit code is then 1.
    """
    from fullconv.base.progress import progress
    from fullconv.nets.bundle import load
    from fullconv.predict.outputs import output_names, spare_photos

    photos = find_photos(images)
    names = output_names(photos)
    spare_photos(photos, names, out)
    segmenter = load(bundle)
    done: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    for photo, name in progress(list(zip(photos, names, strict=True)), what="segmenting", total=len(photos)):
        try:
            done.append(segment(segmenter, photo, out, name, scores=scores, precision=precision))
        except (DiskFull, Unwritable):
            raise
        except FullconvError as error:
            failed.append({"photo": str(photo), "error": error.must, "found": error.found, "try": error.try_})
            click.echo(f"skipped: {error.found}", err=True)
    if as_json:
        document = {
            "schema": "fullconv.predictions/1",
            "bundle": str(bundle),
            "out": str(out),
            "photos": done,
            "failed": failed,
        }
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        click.echo(summary(done, failed, out))
    return 1 if failed else 0


def find_photos(words: Sequence[str]) -> list[Path]:
    """The photos that files, folders and patterns name, in order, each once.

    Raises: UsageError for a folder without photos or a pattern that nothing matches. A file that is not there is left
    for the reading to report, so that the others are segmented.
    """
    from fullconv.base.images import IMAGE_SUFFIXES, list_images

    found: list[Path] = []
    for word in words:
        path = Path(word)
        if path.is_dir():
            here = list_images(path)
        elif path.exists() or not glob.has_magic(word):
            here = [path]
        else:
            matches = (Path(match) for match in sorted(glob.glob(word, recursive=True)))
            here = [match for match in matches if match.is_file() and match.suffix.lower() in IMAGE_SUFFIXES]
        if not here:
            raise UsageError(
                "each IMAGE is a file, a folder with photos, or a pattern that matches some",
                f"no photo in {word} (photos end in {' '.join(IMAGE_SUFFIXES)})",
                "ls the folder; put patterns in quotes",
            )
        found += here
    return list(dict.fromkeys(found))


def records_of(photos: Sequence[Path], work: Callable[[Path], dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """What `work` gives of each photo; one that it cannot be done on is named on stderr and left out.

    Raises: the last photo's error where it could be done on none; DiskFull and Unwritable at once.
    """
    done = 0
    for at, photo in enumerate(photos, start=1):
        try:
            record = work(photo)
        except FullconvError as error:
            if isinstance(error, DiskFull | Unwritable) or (not done and at == len(photos)):
                raise
            click.echo(f"skipped: {error.found}", err=True)
            continue
        done += 1
        yield record


def segment(segmenter: Bundle, photo: Path, out: Path, name: str, *, scores: bool, precision: str) -> dict[str, Any]:
    """Segment and write one photo. Returns: its record for --json."""
    import numpy as np

    from fullconv.base.images import read_photo
    from fullconv.predict.outputs import write_prediction

    pixels = read_photo(photo)
    prediction = segmenter.predict(pixels, precision=precision)
    written = write_prediction(prediction, pixels, out, name, scores=scores)
    counts = np.bincount(prediction.labels.ravel(), minlength=segmenter.label_space.size)
    classes = {
        label: round(int(count) / prediction.labels.size, 6)
        for label, count in zip(segmenter.label_space.names, counts, strict=False)
        if count
    }
    return {
        "photo": str(photo),
        "size": list(prediction.labels.shape),
        "files": [str(path) for path in written],
        "shares": classes,
    }


def summary(done: Sequence[dict[str, Any]], failed: Sequence[dict[str, Any]], out: Path) -> str:
    """What was done, in a few lines."""
    lines = [f"{record['photo']}: {shares_in_words(record['shares'])}" for record in done[:20]]
    lines += [f"... and {len(done) - 20} more"] if len(done) > 20 else []
    lines += [
        f"{len(done)} photo{'s' * (len(done) != 1)} segmented, written to {out}"
        + (f"; {len(failed)} skipped" if failed else "")
    ]
    return "\n".join(lines)


def shares_in_words(shares: dict[str, float]) -> str:
    """The classes that cover most, with their share of the pixels."""
    ranked = sorted(shares.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {share:.1%}" for name, share in ranked[:4])
