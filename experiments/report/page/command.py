"""Reads runs, writes the page."""

import argparse
import base64
from collections.abc import Sequence
from pathlib import Path

from supermix_pl.experiments.report.blocks import Block, blocks
from supermix_pl.experiments.report.page import chapters, layout
from supermix_pl.experiments.report.page.example_mixes import Opener, example_mixes
from supermix_pl.experiments.report.page.measures import evaluations
from supermix_pl.experiments.shared import provenance
from supermix_pl.experiments.shared.runs.folders import Problem, Run, find_runs
from supermix_pl.experiments.shared.runs.paper import load

PROGRAM = "supermix_pl.experiments.reporting"
_MOST_PICTURES = 12
_MOST_BYTES = 2**20


def main(given: Sequence[str], open_run: Opener) -> None:
    """Write a page of the runs in some folders, and print where.

    Args:
        given: Of the command line.
        open_run: Opens data and teacher of a run's config, for example mixes.
    """
    parser = argparse.ArgumentParser(
        prog="supermix-report html",
        description="Write the runs of a sweep on one page that needs no other file: results, curves, mixes, settings.",
    )
    add = parser.add_argument
    add("runs", type=Path, nargs="+", help="folders that are searched for runs of supermix-train")
    add("--output", type=Path, default=Path("report.html"), help="file to write; default %(default)s")
    add("--title", default="Runs of supermix-train", help="default %(default)s")
    add("--mixes", type=int, default=4, help="sets to make as examples with each mixer, 0 to 16; default %(default)s")
    add("--note", action="append", default=[], help="a remark for the head, such as how the data were split")
    options = parser.parse_args(given)
    try:
        if not 0 <= options.mixes <= 16:
            raise ValueError(f"expected 0 to 16 sets in --mixes, got {options.mixes}")
        runs, problems = find_runs(options.runs)
        text = _page(runs, problems, options, given, open_run)
    except ValueError as error:
        parser.error(str(error))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(text, encoding="utf-8")
    print(options.output)


def _page(
    runs: Sequence[Run],
    problems: Sequence[Problem],
    options: argparse.Namespace,
    given: Sequence[str],
    open_run: Opener,
) -> str:
    if not runs:
        listed = "; ".join(f"{problem.folder} ({problem.reason})" for problem in problems)
        raise ValueError(f"expected finished runs, found none; there are: {listed}")
    found = _blocks(runs)
    evaluated = evaluations(runs)
    parts = [layout.notes([*options.note, *_remarks(bool(evaluated))]), _methods(found)]
    for block in found:
        parts += [f"<h2>{layout.html.escape(block.title)}</h2>", chapters.results(block, evaluated)]
        parts += [chapters.corruptions(block, evaluated), chapters.cost(block, evaluated)]
        parts += [chapters.curves(block), chapters.settings(block)]
    parts += [layout.mixes(example_mixes(runs, options.mixes, open_run)), layout.pictures(_pictures(runs))]
    left_out = [f"{problem.folder}: {problem.reason}." for problem in problems]
    left_out += [
        f"{older.folder}: the settings and seed {older.seed} of {newest.folder}, which is newer and counts."
        for block in found
        for newest, older in block.duplicates
    ]
    if left_out:
        parts += ["<h2>Not counted</h2>", layout.notes(list(dict.fromkeys(left_out)))]
    seeds = sorted({run.seed for run in runs})
    origin = provenance.collect(PROGRAM, ["html", *given], seeds=seeds)
    return layout.page(options.title, [*parts, "<h2>Where this page comes from</h2>", layout.notes(origin.lines())])


def _blocks(runs: Sequence[Run]) -> list[Block]:
    """Sort all runs into blocks of one table of the paper, or of none, and one budget."""
    paper = load()
    return [block for name in (*paper.tables,) for block in blocks(runs, name, paper)]


def _remarks(evaluated: bool) -> list[str]:
    lines = [
        "On the test images: mean ± half of the 95 % confidence interval over the seeds (Student's t; none of one).",
        "The dot and bar are the mean and that interval of the last epoch. Bold: the best mean.",
        "Averages are over seeds alone: runs that differ in engine, mixer or budget have rows or tables of their own.",
        "Best epoch: of each run, then averaged. Times are of the machine that ran, with whatever else it did.",
    ]
    if evaluated:
        lines.append(
            "Calibration error: expected, 15 bins unless asked otherwise. FGSM: one step of the size that is named, in "
            "pixels of [0, 1]. Corrupted: mean of eight corruptions at three severities, on some of the images."
        )
    return lines


def _methods(found: Sequence[Block]) -> str:
    there = {trials.method for block in found for trials in block.trials}
    lines = [f"{name}: {text}." for name, text in load().methods.items() if name in there]
    return f"<details><summary>What the methods are</summary>{layout.notes(lines)}</details>" if lines else ""


def _pictures(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Read the last small PNG of every run, up to a limit."""
    found = []
    for run in runs:
        paths = [path for path in run.folder.rglob("*.png") if path.stat().st_size <= _MOST_BYTES]
        if paths and len(found) < _MOST_PICTURES:
            path = max(paths, key=lambda path: (path.stat().st_mtime, path.name))
            uri = "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
            found.append((f"{run.name_of('method') or run.folder.name}, seed {run.seed}: {path.name}", uri))
    return found
