"""The doctor: each fault is found, named, and mended into a new folder; clean samples raise no alarm."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from fullconv.base.errors import UsageError
from fullconv.cli import main
from fullconv.data.read import read_samples
from fullconv.labels.space import LabelSpace
from fullconv.study.case import Case, read_case
from fullconv.study.findings import Finding
from fullconv.study.repairs import fixes_json, mend_samples, snapped
from fullconv.study.rules import findings_of

HEIGHT, WIDTH = 96, 128
ORIENTATION = 0x0112


def scene(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A photo of two discs on a ground, and its label map with ids 0, 1, 2."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    colours = rng.integers(30, 226, (3, 3))
    for which in (1, 2):
        y, x, radius = rng.integers(20, 76), rng.integers(20, 108), rng.integers(12, 30)
        labels[(rows - y) ** 2 + (columns - x) ** 2 < radius**2] = which
    texture = ndimage.gaussian_filter(rng.normal(0, 60, (HEIGHT, WIDTH, 3)), (3, 3, 0))
    photo = colours[labels] + texture + rng.normal(0, 6, (HEIGHT, WIDTH, 3))
    return photo.clip(0, 255).astype(np.uint8), labels


def samples(root: Path, number: int = 16) -> Path:
    for index in range(number):
        split = "train" if index < number * 3 // 4 else "val"
        photo, labels = scene(index)
        for folder, picture, suffix in (("images", photo, "jpg"), ("masks", labels, "png")):
            path = root / f"{folder}/{split}/{index:02d}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(path, **({"quality": 95} if suffix == "jpg" else {}))
    (root / "classes.txt").write_text("background\ncat\ndog\n")
    return root


def studied(root: Path) -> tuple[Case, list[Finding]]:
    case = read_case(root)
    return case, findings_of(case)


def found(findings: Sequence[Finding], kind: str) -> set[str]:
    return {name for one in findings if one.kind == kind for name in one.samples}


def mended(root: Path, to: Path) -> Path:
    fixes = to.with_name("fixes.json")
    fixes.write_text(json.dumps(fixes_json(*studied(root))))
    mend_samples(fixes, to)
    return to


def test_sound_samples_raise_no_alarm(tmp_path: Path) -> None:
    case, findings = studied(samples(tmp_path))
    assert [one for one in findings if one.severity != "note"] == []
    assert {one.kind for one in findings} <= {"tiny_objects"}
    assert len(case.samples) == 16


def test_files_that_cannot_be_read_are_found_and_dropped(tmp_path: Path) -> None:
    root = samples(tmp_path / "data")
    photo, label_map = root / "images/train/01.jpg", root / "masks/train/02.png"
    photo.write_bytes(photo.read_bytes()[:900])
    label_map.write_bytes(b"")
    _, findings = studied(root)
    assert found(findings, "unreadable_photo") == {"01"}
    assert found(findings, "unreadable_mask") == {"02"}
    names = {sample.name for sample in read_samples(mended(root, tmp_path / "mended")).split("all")}
    assert len(names) == 14
    assert not {"01", "02"} & names


def test_label_maps_of_another_size_are_found_and_the_like_ones_resized(tmp_path: Path) -> None:
    root = samples(tmp_path / "data")
    for name, size in (("03", (64, 48)), ("04", (64, 64))):
        path = root / f"masks/train/{name}.png"
        with Image.open(path) as image:
            image.resize(size, Image.Resampling.NEAREST).save(path)
    _, findings = studied(root)
    by_severity = {one.severity: one.samples for one in findings if one.kind == "size_mismatch"}
    assert by_severity == {"note": ("03",), "harm": ("04",)}
    mended(root, tmp_path / "mended")
    with Image.open(tmp_path / "mended/masks/03.png") as image:
        assert image.size == (WIDTH, HEIGHT)
    assert not (tmp_path / "mended/masks/04.png").exists()


@pytest.mark.parametrize("orientation", [3, 6, 8])
@pytest.mark.parametrize("with_map", [True, False])
def test_photos_turned_by_exif_are_found_and_their_maps_laid_right(
    tmp_path: Path, orientation: int, with_map: bool
) -> None:
    root = samples(tmp_path / "data")
    back = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}[orientation]
    photo, label_map = root / "images/train/05.jpg", root / "masks/train/05.png"
    with Image.open(photo) as image:
        exif = image.getexif()
        exif[ORIENTATION] = orientation
        image.transpose(back).save(photo, exif=exif, quality=95)
    if with_map:
        with Image.open(label_map) as image:
            image.transpose(back).save(label_map)
    _, findings = studied(root)
    (finding,) = [one for one in findings if one.kind == "exif_rotation"]
    assert finding.samples == ("05",)
    assert finding.details["drawn_as_stored"] == (["05"] if with_map else [])
    mended(root, tmp_path / "mended")
    with Image.open(tmp_path / "mended/masks/05.png") as image:
        assert (np.array(image) == scene(5)[1]).all()
    with Image.open(tmp_path / "mended/images/05.png") as image:
        assert ORIENTATION not in image.getexif()
        assert image.size == (WIDTH, HEIGHT)


def test_label_maps_that_went_through_jpeg_are_found_and_mostly_brought_back(tmp_path: Path) -> None:
    root = samples(tmp_path / "data")
    for path in (root / "masks").rglob("*.png"):
        with Image.open(path) as image:
            Image.fromarray(np.array(image) * 100).save(path)
    (root / "classes.txt").write_text("0 background\n100 cat\n200 dog\n")
    path = root / "masks/train/06.png"
    with Image.open(path) as image:
        image.save(path.with_suffix(".jpg"), quality=60)
    Image.open(path.with_suffix(".jpg")).save(path)
    path.with_suffix(".jpg").unlink()
    _, findings = studied(root)
    assert found(findings, "antialiased_mask") | found(findings, "jpeg_mask") == {"06"}
    mended(root, tmp_path / "mended")
    with Image.open(tmp_path / "mended/masks/06.png") as image:
        assert (np.array(image) == scene(6)[1]).mean() > 0.99


def test_a_map_with_0_and_255_among_ids_is_found_and_does_not_say_what_the_classes_are(tmp_path: Path) -> None:
    root = samples(tmp_path)
    (root / "classes.txt").unlink()
    path = root / "masks/train/07.png"
    with Image.open(path) as image:
        Image.fromarray(np.where(np.array(image) > 0, 255, 0).astype(np.uint8)).save(path)
    case, findings = studied(root)
    assert found(findings, "binary_255") == {"07"}
    assert case.space is not None
    assert case.space.file_values == ((0,), (1,), (2,))


def test_ids_outside_the_class_file_are_found_by_sample(tmp_path: Path) -> None:
    root = samples(tmp_path)
    path = root / "masks/train/08.png"
    with Image.open(path) as image:
        ids = np.array(image)
    ids[:3, :3] = 77
    Image.fromarray(ids).save(path)
    _, findings = studied(root)
    assert found(findings, "unknown_id") == {"08"}
    assert "77" in next(one.sentence for one in findings if one.kind == "unknown_id")


def test_ids_that_count_from_1_are_told_from_strange_ones(tmp_path: Path) -> None:
    root = samples(tmp_path)
    for path in (root / "masks").rglob("*.png"):
        with Image.open(path) as image:
            Image.fromarray(np.array(image) + 1).save(path)
    _, findings = studied(root)
    (finding,) = [one for one in findings if one.kind == "one_based"]
    assert finding.severity == "stop"


@pytest.mark.parametrize("anew", [False, True])
def test_a_photo_in_train_and_val_is_a_leak_that_goes_out_of_train(tmp_path: Path, anew: bool) -> None:
    root = samples(tmp_path / "data")
    with Image.open(root / "images/train/09.jpg") as image, Image.open(root / "masks/train/09.png") as labels:
        size = (WIDTH * 9 // 10, HEIGHT * 9 // 10) if anew else image.size
        if anew:
            image.resize(size, Image.Resampling.LANCZOS).save(root / "images/val/copy.jpg", quality=80)
        else:
            (root / "images/val/copy.jpg").write_bytes((root / "images/train/09.jpg").read_bytes())
        labels.resize(size, Image.Resampling.NEAREST).save(root / "masks/val/copy.png")
    _, findings = studied(root)
    assert found(findings, "leak") == {"09", "copy"}
    after = read_samples(mended(root, tmp_path / "mended"))
    assert "09" not in {sample.name for sample in after.train}
    assert "copy" in {sample.name for sample in after.val}


def test_copies_within_a_split_are_found_and_one_is_kept(tmp_path: Path) -> None:
    root = samples(tmp_path / "data")
    for folder, suffix in (("images", "jpg"), ("masks", "png")):
        (root / f"{folder}/train/zz.{suffix}").write_bytes((root / f"{folder}/train/00.{suffix}").read_bytes())
    _, findings = studied(root)
    assert found(findings, "exact_duplicate") == {"00", "zz"}
    names = {sample.name for sample in read_samples(mended(root, tmp_path / "mended")).split("all")}
    assert "00" in names
    assert "zz" not in names


def test_maps_without_content_and_classes_without_photos_are_found(tmp_path: Path) -> None:
    root = samples(tmp_path)
    (root / "classes.txt").write_text("background\ncat\ndog\ncow\nsheep\n")
    contents = {"train/00": 255, "train/01": 0, "train/02": 1}
    for name, value in contents.items():
        Image.new("L", (WIDTH, HEIGHT), value).save(root / f"masks/{name}.png")
    with Image.open(root / "masks/val/12.png") as image:
        ids = np.array(image)
    ids[:20] = 3
    Image.fromarray(ids).save(root / "masks/val/12.png")
    _, findings = studied(root)
    assert found(findings, "empty_map") == {"00", "01"}
    assert found(findings, "single_class_map") == {"02"}
    absent = {tuple(one.details["classes"]): one.severity for one in findings if one.kind == "class_absent_in_train"}
    assert absent == {("cow",): "harm", ("sheep",): "note"}


def test_a_rare_class_is_said_with_the_photos_of_train_that_have_it(tmp_path: Path) -> None:
    root = samples(tmp_path)
    (root / "classes.txt").write_text("background\ncat\ndog\ncow\n")
    for name in ("train/01", "val/13"):
        with Image.open(root / f"masks/{name}.png") as image:
            ids = np.array(image)
        ids[:20, :20] = 3
        Image.fromarray(ids).save(root / f"masks/{name}.png")
    _, findings = studied(root)
    (finding,) = [one for one in findings if one.kind == "class_rare"]
    assert "cow in 1 photo" in finding.sentence
    assert finding.samples == ("01",)


def test_poor_photos_are_found(tmp_path: Path) -> None:
    root = samples(tmp_path)
    with Image.open(root / "images/train/03.jpg") as image:
        pixels = np.array(image)
    Image.fromarray(ndimage.gaussian_filter(pixels, (6, 6, 0))).save(root / "images/train/03.jpg", quality=95)
    Image.fromarray(pixels // 30).save(root / "images/train/04.jpg", quality=95)
    _, findings = studied(root)
    assert found(findings, "blurred") == {"03"}
    assert found(findings, "exposure") == {"04"}


def test_the_command_writes_the_study_and_the_mended_copy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = samples(tmp_path / "data")
    (root / "masks/train/02.png").write_bytes(b"")
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    with pytest.raises(SystemExit) as ended:
        main(["study", str(root), "--out", str(tmp_path / "out")])
    assert ended.value.code == 0
    assert "unreadable_mask: 1 label map cannot be read" in capsys.readouterr().out
    document = json.loads((tmp_path / "out/study.json").read_text())
    assert document["schema"] == "fullconv.study/1"
    assert [entry["name"] for entry in document["classes"]] == ["background", "cat", "dog"]
    assert document["samples"]["usable"] == 15
    with pytest.raises(SystemExit) as ended:
        main(["study", "--apply", str(tmp_path / "out/fixes.json"), "--to", str(tmp_path / "mended")])
    assert ended.value.code == 0
    assert len(read_samples(tmp_path / "mended").split("all")) == 15
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


def test_a_list_of_repairs_that_is_none_is_refused(tmp_path: Path) -> None:
    for text in ("{}", '{"schema": "fullconv.fixes/1", "label_space": null}'):
        path = tmp_path / "fixes.json"
        path.write_text(text)
        with pytest.raises(UsageError, match=r"fixes\.json"):
            mend_samples(path, tmp_path / "out")


def test_the_real_odd_set_is_explained(shared: Path) -> None:
    case, findings = studied(shared / "data/human-seg")
    assert len(case.samples) == 90
    assert len(found(findings, "size_mismatch")) == 20
    assert "binary_255" in {one.kind for one in findings}
    assert not [one for one in findings if one.severity == "stop"]


def test_what_is_taken_out_of_the_list_is_not_done(tmp_path: Path) -> None:
    root = samples(tmp_path / "data")
    path = root / "masks/train/03.png"
    with Image.open(path) as image:
        image.resize((64, 48), Image.Resampling.NEAREST).save(path)
    for folder, suffix in (("images", "jpg"), ("masks", "png")):
        (root / f"{folder}/train/zz.{suffix}").write_bytes((root / f"{folder}/train/00.{suffix}").read_bytes())
    document = fixes_json(*studied(root))
    assert {entry["repair"] for entry in document["fixes"]} == {"resize", "drop"}
    document["fixes"] = []
    (tmp_path / "fixes.json").write_text(json.dumps(document))
    result = mend_samples(tmp_path / "fixes.json", tmp_path / "mended")
    assert result.done == {}
    assert result.written == 17
    with Image.open(tmp_path / "mended/masks/03.png") as image:
        assert image.size == (64, 48)


def test_thin_things_survive_the_mending_of_blended_edges() -> None:
    space = LabelSpace(("ground", "pole"), ((0, 0, 0), (255, 0, 0)), ((0,), (200,)))
    truth = np.zeros((60, 80), np.uint8)
    truth[:, 20:22] = 1
    truth[30:50, 40:70] = 1
    values = (truth * 200).astype(np.uint8)
    blurred = ndimage.gaussian_filter((truth * 200).astype(np.float64), 0.7)
    values[:, 35:] = blurred[:, 35:].round().astype(np.uint8)
    labels = snapped(values, space)
    assert (labels[:, :30] == truth[:, :30]).all()
    assert (labels == truth).mean() > 0.995


def test_two_kinds_of_label_maps_are_told_apart(tmp_path: Path) -> None:
    root = samples(tmp_path)
    path = root / "masks/train/04.png"
    with Image.open(path) as image:
        colours = np.array([[0, 0, 0], [200, 10, 30], [10, 200, 90]], np.uint8)[np.array(image)]
    Image.fromarray(colours).save(path)
    case, findings = studied(root)
    assert found(findings, "unknown_colour") == {"04"}
    assert len(case.samples) == 15


def test_where_ids_lie_close_jpeg_shows_by_single_pixels_along_edges(tmp_path: Path) -> None:
    root = samples(tmp_path)
    (root / "classes.txt").write_text("".join(f"{name}\n" for name in ["ground", *"abcdefghi"]))
    for number in (2, 7):
        path = root / f"masks/train/{number:02d}.png"
        with Image.open(path) as image:
            ids = np.array(image)
        rng = np.random.default_rng(number)
        edges = ndimage.binary_dilation(ndimage.morphological_gradient(ids, 3) > 0, iterations=2)
        ids[edges] = rng.integers(0, 10, int(edges.sum()))
        Image.fromarray(ids).save(path)
    _, findings = studied(root)
    assert found(findings, "antialiased_mask") == {"02", "07"}
