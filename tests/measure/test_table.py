"""What a terminal shows."""

from __future__ import annotations

from tests.measure.conftest import small

from fullconv.measure.table import difference_line, scores_table

EXPECTED = """\
class    pixels  precision  recall    IoU    95% interval
class_0       3      0.667   0.667  0.500  0.500 to 0.500
class_1       2      0.500   0.500  0.333  0.333 to 0.333
class_2       1      1.000   1.000  1.000  1.000 to 1.000
class_3       0          -       -      -               -

                           all classes  without background
pixel accuracy                   0.667               0.667
mean accuracy                    0.722               0.750
mean iou                         0.611               0.667
frequency weighted iou           0.528               0.556
mean iou, 95% interval  0.611 to 0.611

absent, so not scored: class_3"""


def test_the_table_reads_as_agreed_without_colour_codes() -> None:
    document = small([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 0, 2], classes=4, background=0).to_json()
    assert scores_table(document) == EXPECTED
    assert "\x1b" not in scores_table(document)


def test_a_comparison_says_whether_it_may_be_chance() -> None:
    line = difference_line({"mean_iou": 0.021, "interval": [0.01, 0.03]}, first="A", second="B")
    assert line == (
        "mean IoU of A less that of B: +0.021 (95% interval +0.010 to +0.030, paired by photo: more than chance)"
    )
    assert "may be chance" in difference_line({"mean_iou": 0.0, "interval": [-0.1, 0.1]}, first="A", second="B")
