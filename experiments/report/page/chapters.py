"""The chapters of the page: every block of runs with its table, curves and settings."""

import html
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from supermix_pl.experiments.report.blocks import Block
from supermix_pl.experiments.report.page.curves import CURVES, curve
from supermix_pl.experiments.report.page.measures import ACCURACY, CORRUPTED, COST, RESULTS, Measure, summary
from supermix_pl.experiments.report.page.svg import chart, span, swatch
from supermix_pl.experiments.report.trials import TEACHERS, Trials
from supermix_pl.experiments.shared.runs.budget import differences, shown
from supermix_pl.experiments.shared.runs.paper import load
from supermix_pl.experiments.shared.statistics import Summary

Evaluated = dict[Path, dict[str, Any]]
_TARGET = re.compile(r"(\w+)\._target_=(?:\w+\.)*(\w+)")  # engine._target_=supermix_pl.engine.BatchEngine
_HALF_SHOWN = 1e-9


def rows_of(block: Block) -> list[tuple[str, Trials]]:
    """Return the rows in the paper's order of methods, with names that no two of them share.

    Plain runs that a pair has borrowed are listed with it alone.
    """
    lenders = set(block.borrowed.values())
    listed = [trials for trials in block.trials if trials.column not in lenders or trials.method != "plain"]
    order = list(load().methods)
    place = {name: number for number, name in enumerate(order)}
    listed.sort(key=lambda trials: (trials.column, place.get(trials.method, len(order)), trials.row))
    columns = {trials.column for trials in listed}
    names = [trials.row if len(columns) == 1 else f"{trials.column}: {trials.row}" for trials in listed]
    short = [_TARGET.sub(r"\1=\2", name) for name in names]
    return list(zip(short if len(set(short)) == len(names) else names, listed, strict=True))


def results(block: Block, evaluated: Evaluated) -> str:
    """Write the table of what the students can do: mean, half of the confidence interval, seeds."""
    return _table(block, evaluated, RESULTS) + _teachers(block)


def cost(block: Block, evaluated: Evaluated) -> str:
    """Write the table of what the trainings took; empty where nothing of it is known."""
    table = _table(block, evaluated, COST)
    return f"<h3>Cost</h3>{table}" if table else ""


def _table(block: Block, evaluated: Evaluated, measures: Sequence[Measure]) -> str:
    """Write a row for each row of the block and a column for each measure that is known of any of them."""
    rows = rows_of(block)
    columns = {
        measure: found
        for measure in measures
        if any(found := [summary(trials.runs, measure, evaluated) for _, trials in rows])
    }
    if not columns:
        return ""
    low, high = _range(columns.get(ACCURACY, []))
    heads = ["<th class=name scope=col>method</th><th scope=col>seeds</th>"]
    for measure in columns:
        title = html.escape(measure.title.format(epsilon=_epsilon(evaluated)))
        heads.append(f"<th scope=col>{title}</th>")
        if measure is ACCURACY:
            heads.append(f"<th scope=col>{low:.1f} to {high:.1f}</th>")
    lines = [f"<div class=wide><table><thead><tr>{''.join(heads)}</tr></thead><tbody>"]
    for place, (name, trials) in enumerate(rows):
        seeds = ", ".join(str(run.seed) for run in trials.runs)
        cells = [f"<th class=name scope=row>{html.escape(name)}</th><td>{html.escape(seeds)}</td>"]
        for measure, found in columns.items():
            each = found[place]
            best = _is_best(each, found, measure)
            cells.append(f"<td{' class=best' if best else ''}>{_number(each, measure)}</td>")
            if measure is ACCURACY:
                cells.append(f"<td>{span(each, low, high) if each else ''}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return "".join([*lines, "</tbody></table></div>"])


def corruptions(block: Block, evaluated: Evaluated) -> str:
    """Write the table of the single corruptions, each the mean of its severities; empty without any."""
    names = {key.split("/")[1] for content in evaluated.values() for key in content if key.startswith(CORRUPTED)}
    if not names or not any(run.folder in evaluated for _, trials in rows_of(block) for run in trials.runs):
        return ""
    order = sorted(names)
    heads = "".join(f"<th scope=col>{html.escape(name.replace('_', ' '))}</th>" for name in order)
    lines = [f"<div class=wide><table><thead><tr><th class=name scope=col>method</th>{heads}</tr></thead><tbody>"]
    for row, trials in rows_of(block):
        cells = [f"<th class=name scope=row>{html.escape(row)}</th>"]
        for name in order:
            values = [
                100 * share
                for run in trials.runs
                for key, share in evaluated.get(run.folder, {}).items()
                if key.startswith(f"{CORRUPTED}{name}/")
            ]
            cells.append(f"<td>{sum(values) / len(values):.1f}</td>" if values else "<td>-</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return "".join(["<h3>Single corruptions, accuracy %</h3>", *lines, "</tbody></table></div>"])


def curves(block: Block) -> str:
    """Draw the learning curves of the rows whose runs have CSV logs; empty without any."""
    rows = rows_of(block)
    charts, drawn = [], set()
    for name, (title, factor) in CURVES.items():
        found = [
            (position, each)
            for position, (row, trials) in enumerate(rows)
            if (each := curve(row, trials.runs, name, factor)) is not None
        ]
        if found:
            drawn |= {position for position, _ in found}
            charts.append(f"<figure><figcaption>{html.escape(title)}</figcaption>{chart(found, title=title)}</figure>")
    if not charts:
        return ""
    keys = [f"<li>{swatch(position)} {html.escape(rows[position][0])}</li>" for position in sorted(drawn)]
    return f"<h3>Curves</h3><div class=charts>{''.join(charts)}<ul class=keys>{''.join(keys)}</ul></div>"


def settings(block: Block) -> str:
    """Write what sets the trainings of the rows apart, and what they share."""
    rows = rows_of(block)
    all_settings = [trials.settings for _, trials in rows]
    names = differences(all_settings)
    shared = {name: value for name, value in all_settings[0].items() if name not in names}
    lines = ["<h3>Settings</h3>"]
    if names:
        lines += ["<details><summary>What differs</summary><dl>"]
        for row, trials in rows:
            own = [f"{name}={shown(trials.settings[name])}" for name in names if name in trials.settings]
            codes = " ".join(f"<code>{html.escape(each)}</code>" for each in own)
            lines.append(f"<dt>{html.escape(row)}</dt><dd>{codes}</dd>")
        lines += ["</dl></details>"]
    codes = " ".join(f"<code>{html.escape(f'{name}={shown(value)}')}</code>" for name, value in shared.items())
    lines += [f"<details><summary>What all have in common</summary><p>{codes}</p></details>"]
    return "".join(lines)


def _range(found: Sequence[Summary | None]) -> tuple[float, float]:
    """Return the lowest and the highest value that the intervals reach; zeros without any."""
    known = [(each.mean, each.half or 0) for each in found if each]
    low = min((mean - half for mean, half in known), default=0.0)
    return low, max((mean + half for mean, half in known), default=0.0)


def _number(found: Summary | None, measure: Measure) -> str:
    if found is None:
        return "-"
    text = f"{found.mean:,.{measure.digits}f}".replace(",", " ")
    return text + (f" ± {found.half:.{measure.digits}f}" if found.half is not None and found.half > _HALF_SHOWN else "")


def _is_best(found: Summary | None, others: Sequence[Summary | None], measure: Measure) -> bool:
    means = [each.mean for each in others if each is not None]
    if found is None or not measure.best or len(means) < 2:
        return False
    return found.mean == (max(means) if measure.best == "high" else min(means))


def _teachers(block: Block) -> str:
    accuracies = {
        f"{100 * accuracy:.2f}"
        for trials in block.trials
        for run in trials.runs
        if (accuracy := run.number(TEACHERS["top1"])) is not None
    }
    return f"<p>Accuracy of the teacher: {' / '.join(sorted(accuracies))} %.</p>" if accuracies else ""


def _epsilon(evaluated: Evaluated) -> str:
    for content in evaluated.values():
        return f"{255 * content['settings']['epsilon']:g}/255"
    return ""
