"""A visit as one compiled function gives what the parts give."""

import json
import subprocess
import sys
from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from supermix_pl import FrozenTeacher, SuperMix
from supermix_pl.engine import StreamEngine
from supermix_pl.engine.stream import visit
from supermix_pl.transforms import RandomCropFlip, RandomResizedCropFlip
from tests.engine.streams import EARLY, EXACT, FAST, SIDE, batch_of, run
from tests.problems import NUM_CLASSES, FlatTeacher

STATISTICS: dict[str, Any] = {"mean": [0.1] * 3, "std": [0.9] * 3, "input_mean": [0.2] * 3, "input_std": [1.1] * 3}


def teacher_of(module: nn.Module | None = None, **options: Any) -> FrozenTeacher:
    return FrozenTeacher(FlatTeacher() if module is None else module, fold=False, **STATISTICS, **options)


def mixes_of(teacher: FrozenTeacher, steps: int, mixer: Any = FAST, **options: Any) -> list[dict[str, Tensor]]:
    mixes = run(StreamEngine(reuse=6), steps, mixer, teacher, **options).mixes
    return [{name: value for name, value in vars(mix).items() if isinstance(value, Tensor)} for mix in mixes]


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Visits are one function on the CPU too, which is run as it is; the functions that were made."""
    made: list[Any] = []
    plain = visit._function
    monkeypatch.setattr(visit, "_DEVICES", ("cpu",))
    monkeypatch.setattr(visit, "_function", lambda *given: made.append(plain(*given)) or made[-1])
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    return made


def halves(step: int, size: int) -> tuple[Tensor, Tensor]:
    images, labels = batch_of(step, size)
    return images.half(), labels


@pytest.mark.parametrize("mixer", [FAST, EXACT, EARLY])
@pytest.mark.parametrize("view", [None, RandomCropFlip(1), RandomResizedCropFlip()])
@pytest.mark.parametrize("batch", [batch_of, pytest.param(halves, marks=pytest.mark.slow)])
def test_one_function_serves_a_run_and_changes_nothing(mixer: Any, view: Any, batch: Any, compiled: list[Any]) -> None:
    expected = mixes_of(teacher_of(), 8, mixer, view=view, batch=batch)
    found = mixes_of(teacher_of(compile=True), 8, mixer, view=view, batch=batch)
    assert len(compiled) == 1
    for one, two in zip(found, expected, strict=True):
        assert one.keys() == two.keys()
        assert all(one[name].equal(two[name]) for name in one)


@pytest.mark.parametrize(
    ("teacher", "mixer", "view"),
    [
        ({"features": "layer"}, FAST, None),
        ({}, SuperMix.fast(mask_size=4, chunk_size=3), None),
        ({}, FAST, nn.Identity()),
        ({"compile": False}, FAST, None),
    ],
)
def test_visits_are_in_parts_where_they_must(teacher: Any, mixer: Any, view: Any, compiled: list[Any]) -> None:
    module = nn.Sequential(OrderedDict(layer=nn.Flatten(), last=nn.Linear(3 * SIDE**2, NUM_CLASSES)))
    visits: list[Any] = []
    plain = visit.Visits._visit_compiled
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(visit.Visits, "_visit_compiled", lambda *given: visits.append(given) or plain(*given))
        mixes_of(teacher_of(module, **({"compile": True} | teacher)), 3, mixer, view=view)
    assert not visits


def test_what_cannot_be_one_function_is_said_once_and_done_in_parts(
    compiled: list[Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(function: Any, **options: Any) -> Any:
        def run(*given: Any) -> Any:
            raise RuntimeError("a branch")

        return run if options.get("fullgraph") else function

    monkeypatch.setattr(torch, "compile", refuse)
    with caplog.at_level("INFO"):
        found = mixes_of(teacher_of(compile=True), 5)
    assert caplog.text.count("not a whole visit: a branch") == 1
    expected = mixes_of(teacher_of(), 5)
    assert all(one[name].equal(two[name]) for one, two in zip(found, expected, strict=True) for name in one)


SCRIPT = """
import json, torch
from functools import partial
from torch._dynamo.utils import counters
from supermix_pl.engine.stream import visit
from tests.engine.test_visit import mixes_of, teacher_of
visit._DEVICES = ("cpu",)
torch.compile = partial(torch.compile, backend="aot_eager")
teacher = teacher_of(compile=True)
teacher._run_compiled = lambda network, prepared: (network(prepared), None)
found, expected = mixes_of(teacher, 30), mixes_of(teacher_of(), 30)
apart = max(float((a[n] - b[n]).abs().max()) for a, b in zip(found, expected) for n in ("images", "masks"))
print(json.dumps([counters["stats"]["unique_graphs"], apart]))
"""


@pytest.mark.slow
def test_one_graph_is_compiled_whatever_comes_and_goes() -> None:
    """Beside this process, whose shape checks are no part of a graph."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    graphs, apart = json.loads(done.stdout.splitlines()[-1])
    assert graphs == 1
    assert apart < 1e-5
