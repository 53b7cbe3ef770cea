"""README, quickstart, examples and demo recommend one thing: what `SuperMixCallback(teacher)` does."""

import ast
import re
from pathlib import Path

import pytest
from hydra.utils import instantiate
from torch import nn

from supermix_pl import StreamEngine, SuperMix, SuperMixCallback
from supermix_pl.experiments import demo
from supermix_pl.experiments.checks import check_settings
from tests.composing import compose

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
DISTILS = {"distillation_weight": 0.9}
PICKED = {"mixer", "engine", "mode"}  # of the callback: what the recommendation leaves as it is


def callbacks_in(source: str) -> list[ast.Call]:
    """Calls of SuperMixCallback in a source."""
    return [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "SuperMixCallback"
    ]


def own_choices(call: ast.Call) -> set[str]:
    """What a call chooses itself: the mixer comes second, the others by name. Sources for the stream are no choice."""
    chosen = {keyword.arg or "**": ast.unparse(keyword.value) for keyword in call.keywords}
    if re.fullmatch(r"StreamEngine\(sources=[^,]*\)", chosen.get("engine", "")):
        del chosen["engine"]
    return ({"mixer"} if len(call.args) > 1 else set()) | set(chosen) & PICKED


def distils(call: ast.Call) -> dict[str, float]:
    """What a call says of distillation."""
    return {each.arg: ast.literal_eval(each.value) for each in call.keywords if each.arg in DISTILS}


def test_the_callback_as_it_is() -> None:
    callback = SuperMixCallback(nn.Linear(3, 3))
    assert repr(callback.mixer) == repr(SuperMix.fast())
    assert isinstance(callback._engine, StreamEngine)
    assert repr(callback._engine) == repr(StreamEngine())
    assert callback._rewriter.mode == "extend"


def test_readme() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    calls = [call for block in blocks for call in callbacks_in(block)]
    assert len(calls) == 1
    assert own_choices(calls[0]) == set()
    assert distils(calls[0]) == DISTILS


def test_a_module_with_plain_cross_entropy_distils() -> None:
    for name in ("classifier", "few_images"):
        assert [distils(call) for call in callbacks_in((ROOT / "examples" / f"{name}.py").read_text())][-1] == DISTILS
    mixing = compose("train", ["experiment=quickstart"]).mixing
    assert {name: mixing[name] for name in DISTILS} == DISTILS


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples(path: Path) -> None:
    for call in callbacks_in(path.read_text()):
        assert own_choices(call) == set()


def test_examples_use_the_callback() -> None:
    assert sum(len(callbacks_in(path.read_text())) for path in EXAMPLES) >= 2


@pytest.mark.parametrize(
    "overrides",
    [
        ["experiment=quickstart"],
        ["experiment=demo", f"method={demo.METHODS[demo.RECOMMENDED]}"],
        [
            "experiment=few_images",
            "method=kd_all_supermix",
            "data.folder=x",
            "teacher.checkpoint=x",
        ],
    ],
    ids=lambda overrides: overrides[0],
)
def test_configs(overrides: list[str]) -> None:
    config = compose("train", [*overrides, "paths.root_dir=x", "paths.output_dir=x"])
    check_settings(config)
    mixer = instantiate(config.mixer)
    assert repr(mixer) == repr(SuperMix.fast())
    config.engine.sources = None  # the training images
    engine = instantiate(config.engine)
    engine = engine(mixer) if not isinstance(engine, StreamEngine) else engine
    assert repr(engine) == repr(StreamEngine(default_transform=None))  # mixing.mixed_transform is the view
    assert config.mixing.mode == "extend"
