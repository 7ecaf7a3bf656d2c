"""Class files in every form that is in use; what is none, or contradicts itself, is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fullconv.base.errors import LabelSpaceError
from fullconv.labels.builtin import VOC_21
from fullconv.labels.classfile import Entry, find_class_file, read_class_file

NAMES = [("sky", None, None), ("traffic light", None, None), ("car", None, None)]
IDS = [("sky", 3, None), ("traffic light", 7, None), ("car", 26, None)]
COLOURS = [("sky", None, (70, 130, 180)), ("traffic light", None, (250, 170, 30)), ("car", None, (0, 0, 142))]
BOTH = [(name, number, colour) for (name, number, _), (_, _, colour) in zip(IDS, COLOURS, strict=True)]

FORMS: dict[str, tuple[str, list[tuple[str, int | None, tuple[int, int, int] | None]]]] = {
    "names.txt": ("sky\ntraffic light\ncar\n", NAMES),
    "classes.txt": ('# a comment\n\n  sky \n"traffic light"\ncar', NAMES),
    "labels.txt": ("3 sky\n7 traffic light\n26 car\n", IDS),
    "classes.txt ": ("sky: 3\ntraffic light: 7\ncar: 26\n", IDS),
    "classes.txt  ": ("3,sky\n7,traffic light\n26,car\n", IDS),
    "labels.txt ": ("sky\t3\ntraffic light\t7\ncar\t26\n", IDS),
    "labelmap.txt": (
        "# label:color_rgb:parts:actions\nsky:70,130,180::\ntraffic light:250,170,30::\ncar:0,0,142::\n",
        COLOURS,
    ),
    "label_colors.txt": ("70 130 180\tsky\n250 170 30\ttraffic light\n0 0 142\tcar\n", COLOURS),
    "classes.txt   ": ("sky 70 130 180\ntraffic light 250 170 30\ncar 0 0 142\n", COLOURS),
    "classes.txt    ": ("sky #4682b4\ntraffic light #FAAA1E\ncar #00008e\n", COLOURS),
    "classes.txt     ": ("3 sky 70 130 180\n7 traffic light 250 170 30\n26 car 0 0 142\n", BOTH),
    "labels.txt  ": ("id name r g b\n", []),
    "class_dict.csv": ("name,r,g,b\nsky,70,130,180\ntraffic light,250,170,30\ncar,0,0,142\n", COLOURS),
    "classes.csv": ("id;class;color\n3;sky;#4682b4\n7;traffic light;#faaa1e\n26;car;#00008e\n", BOTH),
    "classes.csv ": ('Name,Index\nsky,3\n"traffic light",7\ncar,26\n', IDS),
    "classes.csv  ": ("sky,70,130,180\ntraffic light,250,170,30\ncar,0,0,142\n", COLOURS),
    "classes.csv   ": ("name\nsky\ntraffic light\ncar\n", NAMES),
    "labels.tsv": ("index\tlabel\n3\tsky\n7\ttraffic light\n26\tcar\n", IDS),
    "classes.json": (json.dumps(["sky", "traffic light", "car"]), NAMES),
    "labels.json": (json.dumps({"sky": 3, "traffic light": 7, "car": 26}), IDS),
    "labelmap.json": (json.dumps({"3": "sky", "7": "traffic light", "26": "car"}), IDS),
    "dataset.json": (
        json.dumps({"channel_names": {"0": "R"}, "labels": {"sky": 3, "traffic light": 7, "car": 26}}),
        IDS,
    ),
    "classes.json ": (
        json.dumps({"sky": [70, 130, 180], "traffic light": [250, 170, 30], "car": [0, 0, 142]}),
        COLOURS,
    ),
    "classes.json  ": (json.dumps({"70,130,180": "sky", "#faaa1e": "traffic light", "(0, 0, 142)": "car"}), COLOURS),
    "labels.json ": (
        json.dumps({"labels": [{"name": n, "id": i, "color": list(c or ())} for n, i, c in BOTH]}),
        BOTH,
    ),
    "class_names.json": (json.dumps({"classes": [{"label": n, "value": i} for n, i, _ in IDS]}), IDS),
}
FORMS.pop("labels.txt  ")


@pytest.mark.parametrize("form", FORMS)
def test_class_file_is_read(tmp_path: Path, form: str) -> None:
    text, expected = FORMS[form]
    (tmp_path / form.strip()).write_text(text)
    found = find_class_file([tmp_path])
    assert found is not None
    assert list(found.entries) == [Entry(*entry) for entry in expected]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_class_file_of_any_encoding_is_read(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "classes.txt").write_bytes("Straße\nSchäf\n".encode(encoding))
    found = read_class_file(tmp_path / "classes.txt")
    assert found is not None
    assert [entry.name for entry in found.entries] == ["Straße", "Schäf"]


def test_windows_line_ends_are_read(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_bytes(b"cat\r\ndog\r\n")
    found = read_class_file(tmp_path / "classes.txt")
    assert found is not None
    assert [entry.name for entry in found.entries] == ["cat", "dog"]


@pytest.mark.parametrize(
    "lines", [["class 1", "class 2"], ["1", "2", "10"], ["1_ruble", "2_ruble"], ["person1", "car"]]
)
def test_names_with_numbers_stay_names(tmp_path: Path, lines: list[str]) -> None:
    (tmp_path / "classes.txt").write_text("\n".join(lines))
    found = read_class_file(tmp_path / "classes.txt")
    assert found is not None
    assert [entry.name for entry in found.entries] == lines


def test_a_label_space_as_fullconv_writes_it_is_a_class_file(tmp_path: Path) -> None:
    (tmp_path / "label_space.json").write_text(json.dumps(VOC_21.to_json()))
    found = find_class_file([tmp_path])
    assert found is not None
    assert [(entry.name, entry.id) for entry in found.entries] == [(n, i) for i, n in enumerate(VOC_21.names)]


def test_lists_of_files_and_other_json_are_no_class_files(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("masks/0001.png\nmasks/0002.png\n")
    (tmp_path / "dataset.json").write_text('{"title": "streets", "year": [2020, 2021]}')
    (tmp_path / "README.txt").write_text("cat\ndog\n")
    assert find_class_file([tmp_path]) is None


BAD = {
    "empty.txt": ("", "no class is named"),
    "comments.txt": ("# nothing\n\n", "no class is named"),
    "twice.txt": ("cat\ndog\ncat\n", "cat is given more than once"),
    "ids.json": ('{"cat": 1, "dog": 1}', "1 is given more than once"),
    "colours.txt": ("cat 1 2 3\ndog 1 2 3\n", r"\(1, 2, 3\) is given more than once"),
    "range.csv": ("name,r,g,b\ncat,300,0,0\n", "no colour"),
    "word.csv": ("name,id\ncat,one\n", "no id"),
    "nameless.csv": ("name,id\n,1\n", "names no class"),
    "broken.json": ('{"cat": ', "Expecting"),
    "number.json": ("3", "neither a list nor an object"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_class_file_is_named_with_its_fault(tmp_path: Path, case: str) -> None:
    text, fault = BAD[case]
    path = tmp_path / f"classes{Path(case).suffix}"
    path.write_text(text)
    with pytest.raises(LabelSpaceError, match=fault) as error:
        find_class_file([tmp_path])
    assert path.name in error.value.found
