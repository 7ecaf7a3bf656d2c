"""Curves as inline SVG that takes its colours from the page, so it reads in light and dark. Road: report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

WIDTH, HEIGHT = 360, 190
LEFT, RIGHT, TOP, BOTTOM = 40, 8, 10, 24
MOST_POINTS = 300


@dataclass(frozen=True)
class Curve:
    """A loss curve in the chart's units: two paths and the ticks of both axes as (position, label)."""

    raw: str
    smooth: str
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    last: tuple[float, float]


def loss_curve(steps: Sequence[int], losses: Sequence[float | None]) -> Curve | None:
    """Lay out a curve, thinned to the mean of neighbours; None for fewer than two finite losses."""
    points = [
        (float(x), y) for x, y in zip(steps, losses, strict=True) if isinstance(y, int | float) and math.isfinite(y)
    ]
    if len(points) < 2:
        return None
    x_top = points[-1][0]
    points = _thinned(points)
    smooth = _running_mean([y for _, y in points])
    y_ticks = _ticks(_robust_top([y for _, y in points], smooth))
    y_top = y_ticks[-1]

    place = partial(_place, x_top, y_top)
    line = [place(x, y) for (x, _), y in zip(points, smooth, strict=True)]
    return Curve(
        raw=_path([place(x, y) for x, y in points]),
        smooth=_path(line),
        x_ticks=_x_ticks(x_top),
        y_ticks=tuple((place(0, y)[1], f"{y:g}") for y in y_ticks),
        last=line[-1],
    )


@dataclass(frozen=True)
class Band:
    """A curve with its band in the chart's units, dots beside it, and the ticks of both axes as (position, label)."""

    band: str
    middle: str
    dots: tuple[tuple[float, float], ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]


def band_chart(curve: Sequence[tuple[float, float, float, float]], dots: Sequence[tuple[float, float]]) -> Band:
    """Lay out a curve: (x, middle, low, high), x rising; `dots` are (x, y). The y axis begins just below the lowest."""
    x_top = curve[-1][0]
    heights = [*(end for point in curve for end in point[2:]), *(y for _, y in dots)]
    lowest, highest = min(heights), max(heights)
    step = _ticks(max(1e-12, highest - lowest))[1]
    first = math.floor(lowest / step + 1e-9)
    y_ticks = [round(step * index, 12) for index in range(first, max(first + 2, math.ceil(highest / step - 1e-9) + 1))]

    def place(x: float, y: float) -> tuple[float, float]:
        return _place(x_top, y_ticks[-1] - y_ticks[0], x, y - y_ticks[0])

    lows, highs = ([place(one[0], one[end]) for one in curve] for end in (2, 3))
    return Band(
        band=_path([*lows, *reversed(highs)]) + "Z",
        middle=_path([place(x, middle) for x, middle, _, _ in curve]),
        dots=tuple(place(x, y) for x, y in dots),
        x_ticks=_x_ticks(x_top),
        y_ticks=tuple((place(0, y)[1], f"{y:g}") for y in y_ticks),
    )


def _place(x_top: float, y_top: float, x: float, y: float) -> tuple[float, float]:
    """In the chart's units: from 0 to the tops of both axes; what lies beyond in y stays at the edge."""
    across = LEFT + (WIDTH - LEFT - RIGHT) * x / x_top
    up = (HEIGHT - TOP - BOTTOM) * min(max(y, 0.0), y_top) / y_top
    return round(across, 1), round(HEIGHT - BOTTOM - up, 1)


def _x_ticks(x_top: float) -> tuple[tuple[float, str], ...]:
    return tuple((_place(x_top, 1, x, 0)[0], f"{x:,.0f}") for x in _ticks(x_top, least=1) if x <= x_top)


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    width = math.ceil(len(points) / MOST_POINTS)
    groups = [points[start : start + width] for start in range(0, len(points), width)]
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]


def _running_mean(values: list[float]) -> list[float]:
    """Mean of the neighbours on both sides, as many on one side as on the other, so that the line does not lag."""
    most, last, result = max(1, len(values) // 16), len(values) - 1, []
    for index in range(len(values)):
        reach = min(most, index, last - index)
        near = values[index - reach : index + reach + 1]
        result.append(sum(near) / len(near))
    return result


def _robust_top(values: list[float], smooth: list[float]) -> float:
    """Where the axis ends: nearly all points, the whole smooth line, not one spike."""
    ordered = sorted(values)
    return max(ordered[int(0.98 * (len(ordered) - 1))], *smooth, 1e-12)


def _ticks(top: float, *, least: float = 0) -> list[float]:
    """0 and a few round numbers, at least `least` apart, the last at or above the top."""
    step = 10 ** math.floor(math.log10(top))
    parts = (0.1, 0.2, 0.25, 0.5, 1, 2)
    step = next(step * part for part in parts if top / (step * part) <= 5 and _apart(step * part, least))
    return [round(step * index, 12) for index in range(math.ceil(top / step - 1e-9) + 1)]


def _apart(step: float, least: float) -> bool:
    """Whether ticks this far apart are allowed: multiples of `least`."""
    return not least or (step >= least and step % least == 0)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points)
