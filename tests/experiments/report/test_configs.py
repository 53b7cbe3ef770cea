"""The report understands the configs that `supermix-train` really writes."""

import functools
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from supermix_pl.experiments import resolvers
from supermix_pl.experiments.shared.runs.budget import budget, training
from supermix_pl.experiments.shared.runs.folders import Run
from supermix_pl.experiments.shared.runs.identity import Place, place
from supermix_pl.experiments.shared.runs.paper import load
from tests.composing import compose

CONF = Path(__file__).resolve().parents[3] / "conf"
METHODS = sorted(path.stem for path in (CONF / "method").glob("*.yaml"))
PAIRS = sorted(path.stem for path in (CONF / "pair").glob("*-*.yaml"))


@functools.cache
def composed(*overrides: str) -> Run:
    resolvers.register()
    config = compose("train", [*overrides, "paths.root_dir=/here", "paths.output_dir=/here/run"])
    content: Any = OmegaConf.to_container(config, resolve=True)
    return Run(folder=Path(), config=content, metrics={}, seed=0, written=0.0)


@pytest.mark.parametrize("method", [name for name in METHODS if name in load().tables["table2"].methods])
def test_methods(method: str) -> None:
    run = composed("experiment=table2", f"method={method}", "scale=cpu")
    assert place(run) == Place(table="table2", column="wrn_40_2-wrn_16_2", method=method)
    assert budget(run) == budget(composed("experiment=table2", "method=kd", "scale=cpu"))


def test_methods_are_explained() -> None:
    assert len(METHODS) > 10
    assert {method.removeprefix("imagenet_") for method in METHODS} <= set(load().methods)


@pytest.mark.parametrize("table", ["table2", "table3"])
def test_pairs(table: str) -> None:
    assert set(load().tables[table].columns) <= set(PAIRS)
    pair = list(load().tables[table].columns)[-1]
    run = composed(f"experiment={table}", f"pair={pair}", "method=kd")
    assert place(run) == Place(table=table, column=pair, method="kd")


def test_the_papers_budget_is_the_papers() -> None:
    run = composed("experiment=table2")
    assert budget(run).unlike_paper(["cifar100"]) == []
    cpu = composed("experiment=table2", "scale=cpu")
    assert budget(cpu).unlike_paper(["cifar100"]) == ["scale cpu", "100 images a class"]


def test_seeds_and_folders_are_no_part_of_a_training() -> None:
    run = composed("experiment=table2", "seed=3", "paths.data_dir=/elsewhere", "trainer.accelerator=gpu")
    assert training(run.config) == training(composed("experiment=table2").config)
