"""The proof, drawn: one pass beside the classifier on every window. Road: report. In: scores. Out: a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fullconv.report.sheets import Cell, enlarged, heat, sheet

if TYPE_CHECKING:
    from fullconv.nets.proof import Compared
    from fullconv.nets.surgery import Converted

SIDE = 320
FIRST, LAST = (230, 60, 40), (40, 110, 230)


def proof_sheet(
    picture: Any, both: Compared, converted: Converted, names: Sequence[str] | None, *, title: str
) -> Image.Image:
    """The photo with its windows, the map of the class that leads most often by both ways, and the difference.

    Args:
        picture: (3, H, W) prepared, what `both` was made from.
        names: of the classes, or None.
    """
    dense, apart = both.dense.numpy(), both.windows.numpy()
    grid = both.grid
    leading = int(np.bincount(apart.argmax(1)).argmax())
    name = names[leading].partition(",")[0] if names else f"class {leading}"
    low = float(min(dense[:, leading].min(), apart[:, leading].min()))
    high = float(max(dense[:, leading].max(), apart[:, leading].max()))
    scale = max(float(np.abs(apart).max()), 1e-12)
    difference = np.abs(dense - apart).max(1) / scale
    agreeing = dense.argmax(1) == apart.argmax(1)
    size = shown_size(both.size)

    def drawn(values: NDArray[Any], least: float, most: float) -> NDArray[np.uint8]:
        return enlarged(heat(values.reshape(grid), low=least, high=most), size)

    stride = converted.geometry.stride
    cells = [
        Cell(
            with_windows(shown(picture), both, converted, size),
            f"{both.size[0]}x{both.size[1]}: {len(apart)} windows",
            f"the first and the last of {grid[0]}x{grid[1]} windows of {converted.window[0]}x{converted.window[1]}, "
            f"{stride[0]} pixels apart",
        ),
        Cell(drawn(apart[:, leading], low, high), "window by window", f"score of '{name}', {low:.2f} to {high:.2f}"),
        Cell(drawn(dense[:, leading], low, high), "one pass", "the same score, the same colours"),
        Cell(
            drawn(difference, 0, max(float(difference.max()), 1e-12)),
            "largest difference of any score",
            f"relative, 0 to {difference.max():.1e}; the same class first in {agreeing.mean():.0%} of the windows",
        ),
    ]
    return sheet(cells, columns=4, title=title)


def shown_size(size: tuple[int, int]) -> tuple[int, int]:
    """(rows, columns) with the longer side SIDE."""
    factor = SIDE / max(size)
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def shown(picture: Any) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 of a prepared photo, stretched to what the eye sees."""
    values = np.asarray(picture, np.float64).transpose(1, 2, 0)
    low, high = np.percentile(values, 0.5), np.percentile(values, 99.5)
    return np.asarray(((values - low) / max(high - low, 1e-12)).clip(0, 1) * 255, np.uint8)


def with_windows(
    photo: NDArray[np.uint8], both: Compared, converted: Converted, size: tuple[int, int]
) -> NDArray[np.uint8]:
    """The photo at the shown size, a dot at the middle of each window; the first and the last one's outline, where they
    are a pixel wide or more.
    """
    from fullconv.nets.proof import cells_and_windows

    down, across = size[0] / photo.shape[0], size[1] / photo.shape[1]
    page = Image.fromarray(photo).resize((size[1], size[0]), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(page)
    _, starts = cells_and_windows(converted, both.size)
    tall, wide = converted.window
    for top, left in starts:
        y, x = down * (top + tall / 2), across * (left + wide / 2)
        pen.ellipse((x - 2, y - 2, x + 2, y + 2), fill=(255, 255, 255), outline=(0, 0, 0))
    for (top, left), colour in ((starts[0], FIRST), (starts[-1], LAST)):
        box = (across * left, down * top, across * (left + wide) - 1, down * (top + tall) - 1)
        if box[0] <= box[2] and box[1] <= box[3]:  # else Pillow refuses
            pen.rectangle(box, outline=colour, width=3)
    return np.array(page)
