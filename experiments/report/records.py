"""Raw numbers, one record a cell and budget, for CSV."""

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any

from supermix_pl.experiments.report.blocks import Block
from supermix_pl.experiments.report.cells import cells
from supermix_pl.experiments.report.tables import counts, not_comparable
from supermix_pl.experiments.shared.runs.paper import PaperTable


def records(table: PaperTable, block: Block) -> Iterator[dict[str, Any]]:
    """Yield the cells of a block; accuracies in %, deviations and differences in points, None for what is missing."""
    comparable = not not_comparable(table, block) if table.columns else None
    for cell in cells(table, block):
        runs = cell.trials.runs if cell.trials else ()
        record = {
            "table": table.name,
            "budget": block.title,
            "protocol": block.budget.protocol,
            "scale": block.budget.scale,
            "dataset": block.budget.dataset,
            "comparable": comparable,
            "column": cell.column,
            "metric": cell.metric,
            "method": cell.method,
            "variant": cell.trials.label if cell.trials else None,
            "paper": cell.paper and cell.paper.value,
            "paper_star": cell.paper and cell.paper.star,
        }
        for prefix, best in (("", False), ("best_", True)):
            summary = cell.summary(best=best)
            record[f"{prefix}mean"] = summary and summary.mean
            record[f"{prefix}std"] = summary and summary.deviation
            record[f"{prefix}star"] = cell.star(best=best) if summary else None
            record[f"{prefix}difference"] = cell.difference(best=best)
        record["teacher"] = cell.measured and cell.measured.teacher
        record["num_seeds"] = len(runs)
        record["seeds"] = " ".join(str(run.seed) for run in runs)
        record |= {name: counts(runs, name).replace(" ", "") for name in ("epochs", "steps", "student_samples")}
        yield record | {"folders": ";".join(str(run.folder) for run in runs)}


def write_csv(rows: Sequence[dict[str, Any]]) -> str:
    """Write records; what is missing stays empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
