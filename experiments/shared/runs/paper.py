"""The paper's Tables 1 to 5, read from `paper.yaml`."""

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import yaml

TABLES = ("table1", "table2", "table3", "table5", "custom")
"""Those of accuracies."""


@dataclass(frozen=True)
class Reported:
    """A number of the paper's."""

    value: float  # accuracy in %
    star: bool  # whether the paper marks it as above its teacher's
    text: str  # as the paper prints it

    @classmethod
    def of(cls, written: Any, digits: int) -> "Reported":
        """Read a number, behind which a star may stand."""
        number = str(written).rstrip("*")
        star = number != str(written)
        return cls(float(number), star, f"{float(number):.{digits}f}{'*' * star}")


@dataclass(frozen=True, kw_only=True)
class Column:
    """A network, or a pair of teacher and student."""

    name: str  # as in the configs
    title: str  # as in the paper
    dataset: str
    numbers: Mapping[str, Mapping[str, Reported]]  # for each metric ("top1", "top5") and method
    bold: Sequence[str] = ()  # methods whose numbers the paper prints in bold


@dataclass(frozen=True, kw_only=True)
class PaperTable:
    """A table of accuracies."""

    name: str  # "table1" and so on, or "custom"
    title: str
    of_networks: bool = False  # whether its columns are networks; they are pairs otherwise
    stars: bool = True  # whether numbers above the teacher's are marked
    methods: Sequence[str] = ()  # its rows, in order
    columns: Mapping[str, Column] = field(default_factory=dict)
    # images that pass through the student, for the methods of which that is known
    student_samples: Mapping[str, float] = field(default_factory=dict)
    # of each data set the `size` of D', and the `k` of its SuperMix where the rows do not say it
    mixes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def find(self, name: str) -> Column | None:
        """Find a column, however its name is spelt."""
        return {_network(column): self.columns[column] for column in self.columns}.get(_network(name))


@dataclass(frozen=True, kw_only=True)
class Paper:
    """All tables."""

    methods: Mapping[str, str]
    data_sets: Mapping[str, list[str]]  # other names of each data set, canonical
    tables: Mapping[str, PaperTable]  # those of accuracies, and "custom", which has no numbers
    cost: Mapping[str, Any]  # Table 4, as it stands in the file


@functools.cache
def load() -> Paper:
    """Read the paper's numbers."""
    folder = resources.files("supermix_pl.experiments.shared.runs")
    content = yaml.safe_load(folder.joinpath("paper.yaml").read_text(encoding="utf-8"))
    tables = {name: _table(name, **content[name]) for name in TABLES if name in content}
    tables["custom"] = PaperTable(name="custom", title="Pairs and methods of no table")
    return Paper(methods=content["methods"], data_sets=content["data_sets"], tables=tables, cost=content["table4"])


def canonical(name: str) -> str:
    """Take the spelling out of a name.

    >>> canonical("ILSVRC-2012")
    'ilsvrc2012'
    """
    return re.sub("[^a-z0-9]", "", name.lower())


def _network(name: str) -> str:
    """Take the spelling and the data out of a network's or a pair's name, such as imagenet_resnet50."""
    return canonical(name).replace("imagenet", "").replace("shufflenet", "shuffle")


def _table(name: str, *, title: str, digits: int, columns: Mapping[str, Any], **facts: Any) -> PaperTable:
    """Build a table; `facts` stand in the file under the names that they have here."""
    filled = {column: _column(column, facts["methods"], digits, **columns[column]) for column in columns}
    return PaperTable(name=name, title=f"Table {name.removeprefix('table')}: {title}", columns=filled, **facts)


def _column(name: str, methods: Sequence[str], digits: int, **facts: Any) -> Column:
    numbers = {
        metric: {method: Reported.of(number, digits) for method, number in zip(methods, facts.pop(metric), strict=True)}
        for metric in ("top1", "top5")
        if metric in facts
    }
    return Column(**{"name": name, "title": name, "numbers": numbers} | facts)
