"""Write what was measured beside the paper's numbers: a chapter for each block, and what could not be counted."""

# pandas' own types do not tell a DataFrame from a Series
# pyright: reportArgumentType=false, reportCallIssue=false, reportReturnType=false

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from supermix_pl.experiments.report.paper import MISSING, cells, counts, not_comparable, spaced, text
from supermix_pl.experiments.report.runs import COUNTS, Block, blocks, read
from supermix_pl.experiments.shared.render import Heading, Notes, Part, Row, Table
from supermix_pl.experiments.shared.runs.budget import shown
from supermix_pl.experiments.shared.runs.paper import TABLES, PaperTable, load

_EPOCHS = {False: "last", True: "best"}
_MEASURED = [f"{prefix}{name}" for prefix in ("", "best_") for name in ("mean", "std", "star", "difference")]
_CSV = ["table", "budget", "protocol", "scale", "dataset", "comparable", "column", "metric", "method", "variant"]
_CSV += ["paper", "paper_star", *_MEASURED, "teacher", "num_seeds", "seeds", *COUNTS, "folders"]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What is printed."""

    title: str
    remarks: list[str]  # below the title
    body: list[Part]
    records: pd.DataFrame  # raw numbers of all cells, for CSV
    not_counted: list[str] = field(default_factory=list)  # what was found and is in no cell
    seeds: list[int] = field(default_factory=list)


def accuracies(name: str, folders: Sequence[Path], *, best: bool = False) -> Report:
    """Report a table of accuracies.

    Raises:
        ValueError: If there are no runs of it; says what there is.
    """
    table = load().tables[name]
    runs, problems = read(folders)
    filled = blocks(runs, name)
    others = {other: n for other in TABLES if other != name and (n := int((runs["table"] == other).sum()))}
    if not filled:
        there = [f"runs of other tables ({_listed(others)})"] if others else []
        there += [f"{problem.folder} ({problem.reason})" for problem in problems]
        raise ValueError(f"expected runs of {name}, found none; there are: {'; '.join(there)}")
    left_out = [f"{problem.folder}: {problem.reason}." for problem in problems]
    left_out += [line for block in filled for line in block.not_counted]
    left_out += [f"Runs of other tables: {_listed(others)}."] * bool(others)
    return Report(
        title=table.title,
        remarks=_remarks(table, filled),
        body=[part for block in filled for part in chapter(table, block, best=best)],
        records=pd.concat([_records(table, block) for block in filled]),
        not_counted=list(dict.fromkeys(left_out)),
        seeds=sorted({seed for block in filled for seed in block.runs["seed"]}),
    )


def chapter(table: PaperTable, block: Block, *, best: bool) -> list[Part]:
    """Write a block; differences and the overview are of the last or of the best epoch."""
    found = cells(table, block)
    titles = {name: column.title for name, column in table.columns.items()}
    found["title"] = found["column"].map(lambda name: titles.get(name, name))
    if "top5" in found["metric"].values:
        found["title"] += ", " + found["metric"].replace({"top1": "top-1", "top5": "top-5"})
    parts: list[Part] = [Heading(text=block.title), Notes(lines=tuple(_head(table, block)))]
    if table.columns:
        parts.append(_overview(table, found, best=best))
    return [*parts, _details(table, found, best=best)]


def _records(table: PaperTable, block: Block) -> pd.DataFrame:
    comparable = not not_comparable(table, block) if table.columns else None
    budget = block.budget
    found = cells(table, block).assign(table=table.name, budget=block.title, protocol=budget.protocol)
    found = found.assign(scale=budget.scale, dataset=budget.dataset, comparable=comparable)
    for name in COUNTS:
        found[name] = found[name].str.replace(" ", "")
    return found[_CSV].astype(object)


def _head(table: PaperTable, block: Block) -> list[str]:
    reasons = not_comparable(table, block) if table.columns else []
    comparable = "The paper's budget, as far as the configs tell."
    lines = [f"Not comparable with the paper's numbers: {'; '.join(reasons)}." if reasons else comparable]
    lines = lines if table.columns else []
    data = dict(block.budget.data)
    kind = data.pop("_target_", "?")
    settings = [f"{name} {value}" for name, value in data.items() if value not in ("0", "0.0", "false")]
    lines.append(", ".join([f"Data: {block.budget.dataset} ({kind})", *settings]) + ".")
    if float(data.get("validation_fraction", 0)) > 0:
        lines.append("Best epochs are chosen by, and their accuracies are of, training images that are held out.")
    facts: dict[str, Callable[[pd.DataFrame], str]] = {
        "Mixes": _mixes,
        "Natural images in a batch": lambda runs: shown(runs["settings"].iloc[0].get("data.batch_size", "")),
        "Epochs": lambda runs: counts(runs["epochs"]),
        "Steps": lambda runs: counts(runs["steps"]),
        "Student samples": lambda runs: counts(runs["student_samples"]),
        "Seeds": lambda runs: ", ".join(map(str, runs["seed"])),
        "Test images, agreement with the teacher and KL to it": _fidelity,
    }
    lines += [f"{title}: {written}." for title, fact in facts.items() if (written := _by_row(block, fact))]
    columns = list(block.runs["column"].unique())
    taught = [
        f"{column} {' / '.join(f'{value:.2f}' for value in values)}"
        for column in columns
        if (values := block.teachers(column))
    ]
    if taught:
        lines.append(f"Measured accuracy of the teachers: {', '.join(taught)}.")
    lines += [f"plain of {column}: the same student's runs of {lender}." for column, lender in block.borrowed.items()]
    absent = [column.title for name, column in table.columns.items() if name not in columns]
    return [*lines, f"No runs of {', '.join(absent)}."] if absent else lines


def _fidelity(runs: pd.DataFrame) -> str:
    """Return how closely students follow their teacher, averaged over the seeds; nothing where it was not measured."""
    agreement, divergence = (
        runs[name].mean() if name in runs else math.nan for name in ("test/teacher_agreement", "test/teacher_kl")
    )
    return "" if math.isnan(agreement) else f"{100 * agreement:.2f} % and {divergence:.3f} nats"


def _mixes(runs: pd.DataFrame) -> str:
    """Return where the images beside the natural ones came from; nothing where there were none."""
    settings = runs["settings"].iloc[0]
    if settings.get("mixes.kind") == "external":
        return f"external images, {settings['mixes.folder']}"
    if "mixes.kind" in settings:
        size = settings.get("mixes.size")
        return f"fixed, {spaced(size)}" if size else "fixed"
    return "on the fly" if any(name.startswith("mixer.") for name in settings) else ""


def _by_row(block: Block, fact: Callable[[pd.DataFrame], str]) -> str:
    """Write a fact of the trials with the rows that it holds for; without them where it holds for all."""
    rows: dict[str, list[str]] = defaultdict(list)
    for _, runs in block.trials():
        rows[fact(runs)].append(runs["row"].iloc[0])
    texts = {written: ", ".join(dict.fromkeys(names)) for written, names in rows.items() if written}
    return "; ".join(written if len(rows) == 1 else f"{written} ({names})" for written, names in texts.items())


def _overview(table: PaperTable, found: pd.DataFrame, *, best: bool) -> Table:
    measured = [text(cell, best=best, stars=table.stars) for cell in found.to_dict("records")]
    both = found.assign(both=(found["paper_text"] + " / " + measured).replace(f"{MISSING} / {MISSING}", MISSING))
    rows = [row for _, own in both.groupby("method", sort=False) for row in own["row"].unique()]
    laid_out = both.pivot(index="row", columns="title", values="both").fillna(MISSING)
    laid_out = laid_out.loc[rows, both["title"].unique()]
    return Table(
        title=f"Paper / measured, {_EPOCHS[best]} epoch",
        columns=("method", *laid_out.columns),
        sections=(tuple(laid_out.itertuples(name=None)),),
    )


def _details(table: PaperTable, found: pd.DataFrame, *, best: bool) -> Table:
    sections = []
    for title, own in found[found["mean"].notna()].groupby("title", sort=False):
        rows: list[Row] = []
        for cell in own.to_dict("records"):
            runs = bool(cell["num_seeds"])
            numbers = [text(cell, best=epoch, stars=table.stars) if runs or not epoch else MISSING for epoch in _EPOCHS]
            if table.columns:
                difference = cell["best_difference" if best else "difference"]
                numbers = [cell["paper_text"], *numbers, MISSING if pd.isna(difference) else f"{difference:+.2f}"]
            tail = (cell["num_seeds"], cell["epochs"], cell["student_samples"]) if runs else ("", "", "")
            name = "" if rows else str(title)
            rows.append((name, cell["row"], *numbers, *(str(each) or MISSING for each in tail)))
        sections.append(tuple(rows))
    heads = ["last epoch", "best epoch"]
    if table.columns:
        heads = ["paper", *heads, f"{_EPOCHS[best]} - paper"]
    return Table(
        title="Cells with runs",
        columns=("network" if table.of_networks else "pair", "method", *heads, "seeds", "epochs", "student samples"),
        sections=tuple(sections),
        names=2,
    )


def _listed(others: Mapping[str, int]) -> str:
    return ", ".join(f"{count} of {name}" for name, count in others.items())


def _remarks(table: PaperTable, filled: Sequence[Block]) -> list[str]:
    lines = [
        "Accuracy on the test images in %. What was measured: mean ± standard deviation (n - 1) over the seeds.",
        "Best epoch: of each run, then averaged.",
    ]
    if table.columns:
        lines.append("Differences are measured - paper, in points.")
    if table.stars:
        paper = "; the paper's numbers above its own teacher's" if table.columns else ""
        lines.append(f"*: above the accuracy of the teacher that was measured{paper}.")
    methods = {*table.methods, *(method for block in filled for method in block.runs["method"])}
    known = {method.partition("_k")[0] for method in methods}
    lines.append("; ".join(f"{name}: {what}" for name, what in load().methods.items() if name in known) + ".")
    bold = [f"{column.title}: {', '.join(column.bold)}" for column in table.columns.values() if column.bold]
    return [*lines, *table.notes, *([f"In bold in the paper: {'; '.join(bold)}."] if bold else [])]
