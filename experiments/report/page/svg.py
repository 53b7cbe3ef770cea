"""Charts as SVG, drawn for a width of 360 pixels so that they are legible on a phone."""

import html
import math
from collections.abc import Sequence

from supermix_pl.experiments.report.page.curves import Curve
from supermix_pl.experiments.shared.palette import SERIES
from supermix_pl.experiments.shared.statistics import Summary

DASHES = ("", "6 3", "2 2", "8 3 2 3")
_WIDTH, _HEIGHT = 360, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 8, 8, 34
_SPAN = 120


def line_style(position: int) -> str:
    """Return the stroke of a row's line: colours first, then dashes."""
    colour, dash = SERIES[position % len(SERIES)], DASHES[position // len(SERIES) % len(DASHES)]
    return f'stroke="{colour}"' + (f' stroke-dasharray="{dash}"' if dash else "")


def swatch(position: int) -> str:
    """Draw the key of a row's line."""
    return (
        '<svg class="swatch" width="30" height="10" aria-hidden="true">'
        f'<path d="M1 5H29" fill="none" stroke-width="2.5" {line_style(position)}/></svg>'
    )


def chart(curves: Sequence[tuple[int, Curve]], *, title: str) -> str:
    """Draw curves over the course of training, with the range of the seeds.

    Args:
        curves: At least one, each with the number of its row, which decides on its line.
        title: What is drawn.
    """
    low = min(min(curve.low) for _, curve in curves)
    high = max(max(curve.high) for _, curve in curves)
    ticks = nice_ticks(low, high)
    bottom, top = min(low, ticks[0]), max(high, ticks[-1])

    def place(x: float, y: float) -> str:
        across = _LEFT + (x / 100) * (_WIDTH - _LEFT - _RIGHT)
        down = _TOP + (top - y) / (top - bottom or 1) * (_HEIGHT - _TOP - _BOTTOM)
        return f"{across:.1f} {down:.1f}"

    name = html.escape(title)
    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{name}"><title>{name}</title>']
    for tick in ticks:
        x, y = place(0, tick).split()
        parts.append(f'<path class="rule" d="M{x} {y}H{_WIDTH - _RIGHT}"/>')
        parts.append(f'<text x="{_LEFT - 5}" y="{float(y) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for share in (0, 25, 50, 75, 100):
        x = place(share, bottom).split()[0]
        anchor = "end" if share == 100 else "middle"
        parts.append(f'<text x="{x}" y="{_HEIGHT - _BOTTOM + 15}" text-anchor="{anchor}">{share}</text>')
    parts.append(f'<text x="{(_LEFT + _WIDTH) // 2}" y="{_HEIGHT - 4}" text-anchor="middle">% of the steps</text>')
    for position, curve in curves:
        across = [x for x, _ in curve.points]
        if any(a != b for a, b in zip(curve.low, curve.high, strict=True)):
            edge = [*zip(across, curve.high, strict=True), *reversed([*zip(across, curve.low, strict=True)])]
            colour = SERIES[position % len(SERIES)]
            parts.append(f'<path d="M{"L".join(place(*p) for p in edge)}Z" fill="{colour}" opacity=".12"/>')
        path = "L".join(place(*point) for point in curve.points)
        parts.append(
            f'<path d="M{path}" fill="none" stroke-width="1.8" {line_style(position)}>'
            f"<title>{html.escape(curve.name)}</title></path>"
        )
    return "".join([*parts, "</svg>"])


def span(found: Summary, low: float, high: float) -> str:
    """Draw a mean and its confidence interval on an axis from low to high."""
    scale = (_SPAN - 12) / ((high - low) or 1)

    def place(value: float) -> float:
        return 6 + min(max(value - low, 0.0), high - low) * scale

    middle, half = place(found.mean), found.half or 0.0
    bar = f'<path d="M{place(found.mean - half):.1f} 8H{place(found.mean + half):.1f}" stroke-width="2"/>'
    return (
        f'<svg class="span" width="{_SPAN}" height="16" aria-hidden="true"><path class="rule" d="M0 8H{_SPAN}"/>'
        f'{bar}<circle cx="{middle:.1f}" cy="8" r="4"/></svg>'
    )


def nice_ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Return round numbers from below a range to above it.

    >>> nice_ticks(3.2, 41.0)
    [0.0, 10.0, 20.0, 30.0, 40.0, 50.0]
    """
    size = (high - low) / wanted or max(abs(high), 1.0) / wanted
    power = 10.0 ** math.floor(math.log10(size))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= size)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(number * step, 10) for number in range(first, max(last, first + 1) + 1)]
