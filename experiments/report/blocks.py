"""The blocks that are printed: trials of one budget, with the plain runs that they share."""

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from supermix_pl.experiments.report.trials import TEACHERS, Trials, group, labelled, same_teachers
from supermix_pl.experiments.shared.runs.budget import Budget, budget, differences, label
from supermix_pl.experiments.shared.runs.folders import Run, numbers
from supermix_pl.experiments.shared.runs.identity import Place, network, place
from supermix_pl.experiments.shared.runs.paper import Paper


@dataclass(kw_only=True)
class Block:
    """What is printed as one table: trials of one budget.

    Args:
        budget: Theirs.
        title: The budget, told apart from other blocks'.
        trials: In the order in which they were found.
        duplicates: (the run that counts, the older one that does not) of the same seed.
        borrowed: Columns, and the one that their plain runs were made for.
    """

    budget: Budget
    title: str
    trials: list[Trials]
    duplicates: list[tuple[Run, Run]] = field(default_factory=list)
    borrowed: dict[str, str] = field(default_factory=dict)

    def rows(self, method: str) -> list[str]:
        """List the rows of a method, numbers in their labels in order."""
        rows = {trials.row for trials in self.trials if trials.method == method} or {method}
        return sorted(rows, key=lambda row: [part.zfill(12) for part in re.split(r"(\d+)", row)])

    def cell(self, column: str, row: str) -> Trials | None:
        """Find a cell."""
        return next((trials for trials in self.trials if (trials.column, trials.row) == (column, row)), None)


def blocks(runs: Sequence[Run], table: str, paper: Paper) -> list[Block]:
    """Sort the runs of a table into blocks of one budget each; plain runs of the others may be borrowed."""
    by_budget: dict[Budget, list[tuple[Place, Run]]] = defaultdict(list)
    for run in runs:
        by_budget[budget(run, paper)].append((place(run, paper), run))
    found = []
    for its_budget, placed in by_budget.items():
        own = [(place.column, place.method, run) for place, run in placed if place.table == table]
        if own:
            found.append(_block(its_budget, own, _plain(placed, paper) if not paper.tables[table].of_networks else []))
    subsets = {block.budget.dataset for block in found if block.budget.images_per_class < math.inf}
    for block in found:
        if block.budget.images_per_class == math.inf and block.budget.dataset in subsets:
            block.title += ", all images"
    titles = [block.title for block in found]
    data = [dict(block.budget.data) for block in found]
    for block in found:
        if titles.count(block.title) > 1:
            others = [each for each, title in zip(data, titles, strict=True) if title == block.title]
            block.title += f" ({label(dict(block.budget.data), differences(others))})"
    return sorted(found, key=lambda block: (*block.budget.rank(), block.title))


def _plain(placed: list[tuple[Place, Run]], paper: Paper) -> list[tuple[str, Run]]:
    """List the plain runs of pairs, without the teachers that they had no use for."""
    return [
        (
            place.column,
            replace(
                run,
                config=run.config | {"teacher": None},
                metrics={name: value for name, value in run.metrics.items() if not name.startswith("teacher/")},
            ),
        )
        for place, run in placed
        if place.method == "plain" and not paper.tables[place.table].of_networks
    ]


def _block(its_budget: Budget, own: list[tuple[str, str, Run]], plain: list[tuple[str, Run]]) -> Block:
    block = Block(budget=its_budget, title=its_budget.title(), trials=[])
    cells: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for column, method, run in own:
        cells[column, method].append(run)
    for column in dict.fromkeys(column for column, _, _ in own):
        students = {network(run) for each, _, run in own if each == column}
        lenders = [lender for lender, run in plain if network(run) in students]
        if lenders and (column, "plain") not in cells:
            most = max(lenders, key=lenders.count)
            cells[column, "plain"] = [run for lender, run in plain if lender == most and network(run) in students]
            block.borrowed[column] = most
    for (column, method), runs in cells.items():
        block.trials += group(column, method, runs, block.duplicates)
    block.trials = labelled(block.trials)
    return block


def teachers(block: Block, column: str, metric: str) -> list[float]:
    """List the accuracies in % of a column's teachers, as its runs measured them."""
    runs = [run for trials in block.trials if trials.column == column for run in trials.runs]
    values = numbers(runs, TEACHERS[metric])
    return sorted({100 * value for value in same_teachers(values).values()})
