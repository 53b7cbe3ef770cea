"""The paper's Tables 1 to 5, read from `paper.yaml`."""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import yaml


@dataclass(frozen=True, kw_only=True)
class Reported:
    """A number of the paper's.

    Args:
        value: Accuracy in %.
        digits: Decimals that are printed.
        star: Whether the paper marks it as above its teacher's.
    """

    value: float
    digits: int
    star: bool

    def text(self) -> str:
        """Write it as the paper does."""
        return f"{self.value:.{self.digits}f}" + "*" * self.star


@dataclass(frozen=True, kw_only=True)
class Column:
    """A network, or a pair of teacher and student.

    Args:
        name: As in the configs.
        title: As in the paper.
        dataset: Name of its data.
        numbers: The paper's, for each metric ("top1", "top5") and method.
        bold: Methods whose numbers the paper prints in bold.
    """

    name: str
    title: str
    dataset: str
    numbers: Mapping[str, Mapping[str, Reported]]
    bold: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PaperTable:
    """A table of accuracies.

    Args:
        name: "table1" and so on, or "custom".
        title: What it is about.
        of_networks: Whether its columns are networks; they are pairs otherwise.
        stars: Whether numbers above the teacher's are marked.
        methods: Its rows, in order.
        columns: By name.
        student_samples: Images that pass through the student, for the methods of which that is known.
        mixes: Of each data set the `size` of D', and the `k` of its SuperMix where the rows do not say it.
        notes: What has to be said of the paper's numbers.
    """

    name: str
    title: str
    of_networks: bool = False
    stars: bool = True
    methods: tuple[str, ...] = ()
    columns: Mapping[str, Column]
    student_samples: Mapping[str, float]
    mixes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def find(self, name: str) -> Column | None:
        """Find a column, however its name is spelt."""
        return {_network(column): self.columns[column] for column in self.columns}.get(_network(name))


@dataclass(frozen=True, kw_only=True)
class Paper:
    """All tables.

    Args:
        methods: What each method is.
        data_sets: Other names of each data set, canonical.
        tables: Those of accuracies, and "custom", which has no numbers.
        cost: Table 4, as it stands in the file.
    """

    methods: Mapping[str, str]
    data_sets: Mapping[str, tuple[str, ...]]
    tables: Mapping[str, PaperTable]
    cost: Mapping[str, Any]


@functools.cache
def load() -> Paper:
    """Read the paper's numbers."""
    content = yaml.safe_load(
        resources.files("supermix_pl.experiments.shared.runs").joinpath("paper.yaml").read_text(encoding="utf-8")
    )
    tables = {name: _table(name, content[name]) for name in ("table1", "table2", "table3", "table5")}
    tables["custom"] = PaperTable(name="custom", title="Pairs and methods of no table", columns={}, student_samples={})
    return Paper(
        methods=content["methods"],
        data_sets={name: tuple(others) for name, others in content["data_sets"].items()},
        tables=tables,
        cost=content["table4"],
    )


def canonical(name: str) -> str:
    """Take the spelling out of a name.

    >>> canonical("ILSVRC-2012")
    'ilsvrc2012'
    """
    return re.sub("[^a-z0-9]", "", name.lower())


def _network(name: str) -> str:
    """Take the spelling and the data out of a network's or a pair's name, such as imagenet_resnet50."""
    return canonical(name).replace("imagenet", "").replace("shufflenet", "shuffle")


def _table(name: str, node: Mapping[str, Any]) -> PaperTable:
    return PaperTable(
        name=name,
        title=f"Table {name.removeprefix('table')}: {node['title']}",
        of_networks=node["kind"] == "networks",
        stars=node["stars"],
        methods=tuple(node["methods"]),
        columns={column: _column(column, node["columns"][column], node) for column in node["columns"]},
        student_samples=node.get("student_samples", {}),
        mixes=node["mixes"],
        notes=tuple(node["notes"]),
    )


def _column(name: str, node: Mapping[str, Any], table: Mapping[str, Any]) -> Column:
    return Column(
        name=name,
        title=node.get("title", name),
        dataset=node["dataset"],
        bold=tuple(node.get("bold", ())),
        numbers={
            metric: {
                method: Reported(
                    value=float(str(number).rstrip("*")), digits=table["digits"], star=str(number).endswith("*")
                )
                for method, number in zip(table["methods"], node[metric], strict=True)
            }
            for metric in ("top1", "top5")
            if metric in node
        },
    )
