"""What pages say was measured stands in the records beside them."""

import csv
from pathlib import Path

RESULTS = Path(__file__).resolve().parents[2] / "experiments" / "results"


def test_the_longer_runs_with_the_papers_losses() -> None:
    folder = RESULTS / "paper_losses"
    with (folder / "longer.csv").open(encoding="utf-8") as file:
        rows = {row["method"]: row["accuracy_at_400000"] for row in csv.DictReader(file) if row["seed"] == "0"}
    lines = (folder / "README.md").read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip(" *") for cell in line.split("|")[1:-1]] for line in lines]
    shown = {cell[0]: cell[4] for cell in cells if len(cell) == 6 and cell[0] in rows}
    known = {method: float(accuracy) for method, accuracy in rows.items() if accuracy}
    assert len(known) == 11
    assert {method for method, accuracy in shown.items() if accuracy} <= set(known)
    for method, accuracy in known.items():
        assert abs(float(shown[method]) - 100 * accuracy) <= 0.051, method
