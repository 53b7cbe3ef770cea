"""A block of runs as a chapter of the report: its budget, all cells, the cells with runs."""

from collections import defaultdict
from collections.abc import Callable, Sequence

from supermix_pl.experiments.report.blocks import Block, teachers
from supermix_pl.experiments.report.cells import MISSING, Cell, cells
from supermix_pl.experiments.report.trials import Trials
from supermix_pl.experiments.shared.runs.budget import shown
from supermix_pl.experiments.shared.runs.folders import Run, numbers
from supermix_pl.experiments.shared.runs.paper import PaperTable
from supermix_pl.experiments.shared.table import Heading, Notes, Part, Row, Table

_SAME_SAMPLES = 0.01  # of the paper's
_METRICS = {"top1": "top-1", "top5": "top-5"}
_EPOCHS = {False: "last", True: "best"}


def chapter(table: PaperTable, block: Block, *, best: bool) -> list[Part]:
    """Write a block; differences and the overview are of the last or of the best epoch."""
    found = list(cells(table, block))
    parts: list[Part] = [Heading(text=block.title), Notes(lines=tuple(_head(table, block)))]
    if table.columns:
        parts.append(_overview(table, found, best=best))
    return [*parts, _details(table, found, best=best)]


def not_comparable(table: PaperTable, block: Block) -> list[str]:
    """List what sets a block's budget apart from the paper's; empty if nothing does, as far as configs tell."""
    reasons = block.budget.unlike_paper(sorted({column.dataset for column in table.columns.values()}))
    for method, samples in ({} if reasons else table.student_samples).items():
        runs = [run for trials in block.trials if trials.method == method for run in trials.runs]
        seen = numbers(runs, "student_samples")
        if any(abs(count - samples) > _SAME_SAMPLES * samples for count in seen):
            reasons.append(f"{method}: {' / '.join(map(_spaced, seen))} student samples, not {_spaced(samples)}")
    return reasons


def counts(runs: Sequence[Run], name: str) -> str:
    """Write a count of the runs, or all that there are."""
    return " / ".join(map(_spaced, numbers(runs, name)))


def _head(table: PaperTable, block: Block) -> list[str]:
    lines = []
    if table.columns:
        reasons = not_comparable(table, block)
        lines = (
            [f"Not comparable with the paper's numbers: {'; '.join(reasons)}."]
            if reasons
            else ["The paper's budget, as far as the configs tell."]
        )
    data = dict(block.budget.data)
    kind = data.pop("_target_", "?")
    settings = [f"{name} {value}" for name, value in data.items() if value not in ("0", "0.0", "false")]
    lines.append(", ".join([f"Data: {block.budget.dataset} ({kind})", *settings]) + ".")
    if float(data.get("validation_fraction", 0)) > 0:
        lines.append("Best epochs are chosen by, and their accuracies are of, training images that are held out.")
    facts: dict[str, Callable[[Trials], str]] = {
        "Mixes": _mixes,
        "Natural images in a batch": lambda trials: shown(trials.settings.get("data.batch_size", "")),
        "Epochs": lambda trials: counts(trials.runs, "epochs"),
        "Steps": lambda trials: counts(trials.runs, "steps"),
        "Student samples": lambda trials: counts(trials.runs, "student_samples"),
        "Seeds": lambda trials: ", ".join(str(run.seed) for run in trials.runs),
    }
    lines += [f"{title}: {text}." for title, fact in facts.items() if (text := _by_row(block, fact))]
    columns = dict.fromkeys(trials.column for trials in block.trials)
    accuracies = {column: teachers(block, column, "top1") for column in columns}
    taught = [
        f"{name} {' / '.join(f'{value:.2f}' for value in values)}" for name, values in accuracies.items() if values
    ]
    if taught:
        lines.append(f"Measured accuracy of the teachers: {', '.join(taught)}.")
    lines += [f"plain of {column}: the same student's runs of {lender}." for column, lender in block.borrowed.items()]
    absent = [column.title for name, column in table.columns.items() if name not in columns]
    return [*lines, f"No runs of {', '.join(absent)}."] if absent else lines


def _mixes(trials: Trials) -> str:
    """Return where the images beside the natural ones came from; nothing where there were none."""
    settings = trials.settings
    if "data.mixed" in settings:
        size = settings.get("data.mixed_size")
        return f"fixed, {_spaced(size)}" if size else "fixed"
    if "data.external" in settings:
        return f"external images, {settings['data.external']}"
    return "on the fly" if any(name.startswith("mixer.") for name in settings) else ""


def _by_row(block: Block, fact: Callable[[Trials], str]) -> str:
    """Write a fact of the trials with the rows that it holds for; without them where it holds for all."""
    rows: dict[str, list[str]] = defaultdict(list)
    for trials in block.trials:
        rows[fact(trials)].append(trials.row)
    texts = {text: ", ".join(dict.fromkeys(names)) for text, names in rows.items() if text}
    return "; ".join(text if len(rows) == 1 else f"{text} ({names})" for text, names in texts.items())


def _overview(table: PaperTable, found: Sequence[Cell], *, best: bool) -> Table:
    """Lay all cells out as the paper does."""
    by_place = {(cell.row, cell.column, cell.metric): cell for cell in found}
    columns = dict.fromkeys((cell.column, cell.metric) for cell in found)
    methods = dict.fromkeys(cell.method for cell in found)
    rows = dict.fromkeys(cell.row for method in methods for cell in found if cell.method == method)

    def text(cell: Cell | None) -> str:
        if cell is None or (cell.paper is None and cell.measured is None):
            return MISSING
        return f"{cell.paper.text() if cell.paper else MISSING} / {cell.text(best=best, stars=table.stars)}"

    return Table(
        title=f"Paper / measured, {_EPOCHS[best]} epoch",
        columns=("method", *(_title(table, found, *column) for column in columns)),
        sections=(tuple((row, *(text(by_place.get((row, *column))) for column in columns)) for row in rows),),
    )


def _details(table: PaperTable, found: Sequence[Cell], *, best: bool) -> Table:
    """List the cells with runs."""
    sections: dict[str, list[Row]] = defaultdict(list)
    for cell in found:
        if cell.measured is None:
            continue
        title = _title(table, found, cell.column, cell.metric)
        difference, runs = cell.difference(best=best), cell.trials.runs if cell.trials else ()
        paper = (cell.paper.text() if cell.paper else MISSING, *_measured(table, cell))
        delta = MISSING if difference is None else f"{difference:+.2f}"
        numbers = (*paper, delta) if table.columns else _measured(table, cell)
        tail = (counts(runs, "epochs") or MISSING, counts(runs, "student_samples") or MISSING)
        name = "" if title in sections else title
        sections[title].append((name, cell.row, *numbers, str(len(runs)) if runs else MISSING, *tail))
    heads = ("last epoch", "best epoch")
    if table.columns:
        heads = ("paper", *heads, f"{_EPOCHS[best]} - paper")
    return Table(
        title="Cells with runs",
        columns=("network" if table.of_networks else "pair", "method", *heads, "seeds", "epochs", "student samples"),
        sections=tuple(tuple(rows) for rows in sections.values()),
        names=2,
    )


def _measured(table: PaperTable, cell: Cell) -> tuple[str, str]:
    best = cell.text(best=True, stars=table.stars) if cell.trials else MISSING
    return cell.text(best=False, stars=table.stars), best


def _title(table: PaperTable, found: Sequence[Cell], column: str, metric: str) -> str:
    title = table.columns[column].title if column in table.columns else column
    return f"{title}, {_METRICS[metric]}" if any(cell.metric == "top5" for cell in found) else title


def _spaced(value: float) -> str:
    return f"{value:,.0f}".replace(",", " ")
