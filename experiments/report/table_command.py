"""`supermix-report`: the paper's numbers beside those of the runs that are in folders."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from supermix_pl.experiments.report.gathering import TABLES, Choice, Report, accuracies, costs
from supermix_pl.experiments.report.records import write_csv
from supermix_pl.experiments.shared import provenance, render
from supermix_pl.experiments.shared.table import Heading, Notes, Part

PROGRAM = "supermix_pl.experiments.reporting"
_SUFFIXES = {".md": "markdown", ".tex": "latex", ".html": "html", ".csv": "csv"}
_WRITERS: dict[str, Callable[[Sequence[Part]], str]] = {
    "markdown": render.markdown,
    "latex": render.latex,
    "html": render.html_page,
}
_WIDE = 180


def main(arguments: Sequence[str] | None = None) -> None:
    """Gather, compare, print or write."""
    arguments = sys.argv[1:] if arguments is None else arguments
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
    text = write_csv(report.records) if kind == "csv" else _WRITERS[kind](parts)
    if options.output is None:
        print(text, end="")
        return
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(text, encoding="utf-8")
    print(f"written to {options.output}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="supermix-report",
        description="Print a table of the paper's beside what was measured. table1, 2, 3, 5: runs of supermix-train; "
        "table4: JSON files of its benchmark; custom: runs of pairs and methods that are in no table.",
    )
    add = parser.add_argument
    add("table", help=f"one of {', '.join(TABLES)}")
    add("runs", type=Path, nargs="+", help="folders that are searched for runs (for table4: for JSON files)")
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
    choice = Choice(protocol=options.protocol, scale=options.scale)
    if options.table != "table4":
        return accuracies(options.table, options.runs, choice, best=options.best)
    if options.best or choice.given():
        raise ValueError("expected no --best, --protocol or --scale for table4, got one: it is not of trainings")
    return costs(options.runs)


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


if __name__ == "__main__":
    main()
