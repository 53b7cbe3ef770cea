"""`supermix-report table2`, `html` and the others: read the command line, print or write."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from supermix_pl.experiments.report.page import PROGRAM, page
from supermix_pl.experiments.report.tables import TABLES, Report, accuracies
from supermix_pl.experiments.shared import provenance, render
from supermix_pl.experiments.shared.files import write_whole
from supermix_pl.experiments.shared.table import Heading, Notes, Part

_SUFFIXES = {".md": "markdown", ".csv": "csv"}
_WIDE = 180


def write_page(arguments: Sequence[str]) -> None:
    """Write a page of the runs in some folders, and print where."""
    parser = argparse.ArgumentParser(
        prog="supermix-report html",
        description="Write the runs of a sweep on one page that needs no other file: results, curves, settings.",
    )
    add = parser.add_argument
    add("runs", type=Path, nargs="+", help="folders that are searched for runs of supermix-train")
    add("--output", type=Path, help="file to write; default report.html in the first of the folders")
    add("--title", default="Runs of supermix-train", help="default %(default)s")
    add("--note", action="append", default=[], help="a remark for the head, such as how the data were split")
    options = parser.parse_args(arguments)
    try:
        text = page(options.runs, title=options.title, notes=options.note, arguments=arguments)
    except ValueError as error:
        parser.error(str(error))
    output = options.output or options.runs[0] / "report.html"
    write_whole(output, text)
    print(output)


def write_table(arguments: Sequence[str]) -> None:
    """Gather the runs of a table, compare them with the paper, print or write."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        kind = _format(options)
        report = _report(options)
    except ValueError as error:
        parser.error(str(error))
    parts = _parts(report, options.note, provenance.collect(PROGRAM, arguments, seeds=report.seeds))
    if kind == "rich":
        console = Console()
        (console if console.is_terminal else Console(width=_WIDE)).print(render.terminal(parts))
        return
    if report.not_counted and (options.output is not None or kind == "csv"):
        print("not counted:", *report.not_counted, sep="\n", file=sys.stderr)
    text = report.records.to_csv(index=False) if kind == "csv" else render.markdown(parts)
    if options.output is None:
        print(text, end="")
        return
    write_whole(options.output, text)
    print(f"written to {options.output}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="supermix-report",
        description="Print a table of the paper's beside what runs of supermix-train measured. custom: runs of pairs "
        "and methods that are in no table. Table 4 is printed by its benchmark.",
    )
    add = parser.add_argument
    add("table", help=f"one of {', '.join(TABLES)}")
    add("runs", type=Path, nargs="+", help="folders that are searched for runs")
    add("--format", choices=("rich", *_SUFFIXES.values()), help="rich, for a terminal, if nothing is given")
    add("--output", type=Path, help=f"file to write, in the format of its suffix: {', '.join(_SUFFIXES)}")
    add("--best", action="store_true", help="compare the best epochs with the paper, not the last ones; csv has both")
    add("--protocol", help="count the runs of this protocol alone")
    add("--scale", help="count the runs of this scale alone")
    add("--note", action="append", default=[], help="a remark for the head, which csv lacks: how the data were split")
    return parser


def _format(options: argparse.Namespace) -> str:
    if options.output is None:
        return options.format or "rich"
    kind = options.format or _SUFFIXES.get(options.output.suffix)
    if kind is None or kind == "rich":
        raise ValueError(
            f"expected --output with a suffix of {', '.join(_SUFFIXES)}, or --format {', '.join(_SUFFIXES.values())}, "
            f"got {options.output}{' with --format rich' * (kind == 'rich')}"
        )
    return kind


def _report(options: argparse.Namespace) -> Report:
    if options.table not in TABLES:
        raise ValueError(f"expected a table of {', '.join(TABLES)}, got {options.table!r}")
    wanted = {node: value for node in ("protocol", "scale") if (value := getattr(options, node)) is not None}
    return accuracies(options.table, options.runs, wanted, best=options.best)


def _parts(report: Report, notes: Sequence[str], origin: provenance.Provenance) -> list[Part]:
    """Put head and foot around the body."""
    parts = [Heading(text=report.title, level=1), Notes(lines=(*notes, *report.remarks)), *report.body]
    if report.not_counted:
        parts += [Heading(text="Not counted"), Notes(lines=tuple(report.not_counted))]
    commit = "not from a git checkout" if origin.commit is None else origin.commit + " (dirty)" * bool(origin.dirty)
    made = (
        f"Command: {origin.command}",
        f"Commit of the report's code, not of the runs': {commit}; date: {origin.date}",
        "Versions: " + ", ".join(f"{name} {version}" for name, version in origin.versions.items()),
    )
    return [*parts, Heading(text="Where this report comes from"), Notes(lines=made)]
