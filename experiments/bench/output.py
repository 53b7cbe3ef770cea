"""Printing and writing of what a benchmark measured: tables as Markdown, single measurements as JSON."""

import argparse
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from supermix_pl.experiments.bench import provenance
from supermix_pl.experiments.bench.tables import Table

_WIDE = 180


def progress_bar() -> Progress:
    """Show what is being measured, beside the results and not among them."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True))


def settings(options: argparse.Namespace, *left_out: str) -> dict[str, Any]:
    """Give the arguments of a program, without what is particular to a machine."""
    return {name: _portable(value) for name, value in sorted(vars(options).items()) if name not in left_out}


def publish(
    stem: Path,
    *,
    title: str,
    origin: provenance.Provenance,
    settings: Mapping[str, Any],
    remark: str,
    tables: Sequence[Table],
    content: Mapping[str, Any],
) -> None:
    """Print the tables, and write them to STEM.md and the content to STEM.json, both with where they come from."""
    markdown, file = stem.with_name(stem.name + ".md"), stem.with_name(stem.name + ".json")
    text = [
        f"# {title}",
        "",
        *(f"- {line}" for line in origin.lines()),
        "- Settings: " + ", ".join(f"{name} {value}" for name, value in settings.items()),
        f"- {remark}",
        "",
        *(table.markdown() for table in tables),
    ]
    markdown.write_text("\n".join(text))
    whole = {"provenance": dataclasses.asdict(origin), "settings": settings, "remark": remark, **content}
    file.write_text(json.dumps(whole, indent=1, allow_nan=False) + "\n")
    console = Console()
    console = console if console.is_terminal else Console(width=_WIDE)
    for table in tables:
        console.print(table.rich(), "")
    console.print(remark)
    console.print(f"written to {markdown} and {file}")


def _portable(value: Any) -> Any:
    if isinstance(value, str):
        return provenance.portable(value)
    return [_portable(each) for each in value] if isinstance(value, list) else value
