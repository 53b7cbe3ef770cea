"""Batches of odd structures and sizes, drawn by hypothesis, through the interception and through real fits."""

import copy
import dataclasses
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

from supermix_pl import FrozenTeacher, SuperMix
from supermix_pl.batch import Key, get_field
from supermix_pl.engine import BatchEngine, StreamEngine
from supermix_pl.mixing.targets import TargetFormat
from supermix_pl.trainer.interception import Interception
from supermix_pl.trainer.rewriting import BatchRewriter
from supermix_pl.transforms import RandomCropFlip
from tests.integration.toys import NUM_CLASSES, Student, Teacher, loader_of, make_callback, make_trainer, natural_data

SIDE = 8
TEACHER = FrozenTeacher(Teacher())
repeatable = settings(deadline=None, derandomize=True, phases=[Phase.generate])  # to shrink would take minutes
pytestmark = pytest.mark.filterwarnings("ignore:a batch of . images is smaller than k:UserWarning")


class Named(NamedTuple):
    image: Any
    more: Any
    label: Any


@dataclasses.dataclass
class Data:
    image: Any
    more: Any
    label: Any


Container = Callable[[Any, Any, Any], Any]
CONTAINERS: dict[str, tuple[Container, tuple[Key, Key, Key]]] = {
    "list": (lambda *fields: list(fields), (0, 1, 2)),
    "tuple": (lambda *fields: fields, (0, 1, 2)),
    "dict": (lambda image, more, label: {"image": image, "more": more, "label": label}, ("image", "more", "label")),
    "named": (Named, ("image", "more", "label")),
    "data": (Data, ("image", "more", "label")),
}
PER_SAMPLE: dict[str, Callable[[int], Any]] = {
    "ids": lambda size: torch.arange(size) + 100,
    "array": lambda size: np.arange(size) * 0.5,
    "paths": lambda size: [f"{row}.png" for row in range(size)],
    "boxes": lambda size: [torch.full((row + 11, 4), row) for row in range(size)],
    "empty rows": lambda size: torch.zeros(size, 0),
}
SHARED: dict[str, Any] = {"scalar": torch.tensor(3.0), "text": "train", "nothing": None, "matrix": torch.eye(29)}


@dataclasses.dataclass(frozen=True)
class Layout:
    """A batch's containers, outermost first, what else is in it, and what is asked of the mixing."""

    containers: tuple[str, ...]
    per_sample: str
    shared: str
    image_dtype: torch.dtype
    label_dtype: torch.dtype
    channels_last: bool
    k: int
    mode: Literal["extend", "replace"]
    targets: TargetFormat
    engine: str
    sizes: tuple[int, ...]

    def batch(self, size: int, seed: int) -> Any:
        images, labels = natural_data(size, seed)
        memory_format = torch.channels_last if self.channels_last else torch.contiguous_format
        images = images.to(self.image_dtype).contiguous(memory_format=memory_format)
        value = CONTAINERS[self.containers[-1]][0](images, self._more(size), labels.to(self.label_dtype))
        for container in reversed(self.containers[:-1]):
            value = CONTAINERS[container][0](SHARED[self.shared], SHARED[self.shared], value)
        return value

    def _more(self, size: int) -> Any:
        return {"own": PER_SAMPLE[self.per_sample](size), "shared": SHARED[self.shared]}

    @property
    def keys(self) -> tuple[Key, Key, Key]:
        """Of images, the other fields, and labels."""
        outer = [str(CONTAINERS[name][1][2]) for name in self.containers[:-1]]
        keys = CONTAINERS[self.containers[-1]][1]
        if not outer:
            return keys
        image, more, label = (".".join([*outer, str(key)]) for key in keys)
        return image, more, label

    def make_engine(self) -> BatchEngine | StreamEngine:
        return BatchEngine() if self.engine == "batch" else StreamEngine(reuse=1)

    @property
    def mixer(self) -> SuperMix:
        return SuperMix(k=self.k, mask_size=4, max_steps=2, max_logit_step=1.0)


layouts = st.builds(
    Layout,
    containers=st.lists(st.sampled_from(list(CONTAINERS)), min_size=1, max_size=4).map(tuple),
    per_sample=st.sampled_from(list(PER_SAMPLE)),
    shared=st.sampled_from(list(SHARED)),
    image_dtype=st.sampled_from([torch.float32, torch.float32, torch.float64, torch.bfloat16, torch.float16]),
    label_dtype=st.sampled_from([torch.int64, torch.int32, torch.uint8]),
    channels_last=st.booleans(),
    k=st.integers(1, 4),
    mode=st.sampled_from(["extend", "replace"]),
    targets=st.sampled_from(get_args(TargetFormat)),
    engine=st.sampled_from(["batch", "stream"]),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5).map(tuple),
)


def assert_mixed(layout: Layout, size: int, before: Any, after: Any) -> None:
    """The batch has its shape, its natural part is as it was, and there is one finite mix for each image."""
    input_key, more_key, target_key = layout.keys
    natural = size if layout.mode == "extend" else 0
    images, labels, more = (get_field(after, key) for key in (input_key, target_key, more_key))
    assert type(after) is type(before)
    assert images.shape == (natural + size, NUM_CLASSES, SIDE, SIDE)
    assert images.dtype == layout.image_dtype
    assert images.isfinite().all()
    assert torch.equal(images[:natural], get_field(before, input_key)[:natural])
    parts = labels if layout.targets == "pairs" else (labels,)
    assert {len(part) for part in parts} == {natural + size}
    if layout.targets == "teacher":
        assert torch.equal(labels[:natural], get_field(before, target_key)[:natural])
        assert 0 <= labels.min() <= labels.max() < NUM_CLASSES
    else:
        torch.testing.assert_close(
            parts[-1].sum(dim=1).double(), torch.ones(natural + size).double(), atol=0.02, rtol=0
        )
    own = get_field(before, more_key)["own"]
    assert len(more["own"]) == natural + size
    assert same(more["own"][:size], own)
    assert same(more["own"][natural:], own)
    assert same(more["shared"], get_field(before, more_key)["shared"])


def same(value: Any, expected: Any) -> bool:
    if isinstance(value, Tensor):
        return torch.equal(value, expected)
    if isinstance(value, np.ndarray):
        return np.array_equal(value, expected)
    return all(map(same, value, expected)) if isinstance(value, list) else value == expected


def caught(layout: Layout) -> None:
    """Let the interception catch the batches of a trainer that is only a name."""
    input_key, _, target_key = layout.keys
    rewriter = BatchRewriter(
        mixer=layout.mixer,
        engine=layout.make_engine(),
        mode=layout.mode,
        targets=layout.targets,
        input_key=input_key,
        target_key=target_key,
        mixed_transform=RandomCropFlip(padding=1),
    )
    number = iter(range(len(layout.sizes)))
    trainer = SimpleNamespace(
        training=True,
        strategy=SimpleNamespace(batch_to_device=lambda batch: batch),
        lightning_module=SimpleNamespace(_current_fx_name="batch_to_device"),
    )
    Interception(trainer, lambda batch: rewriter.rewrite(batch, TEACHER, stream=(0, next(number))).batch)
    for step, size in enumerate(layout.sizes):
        batch = layout.batch(size, step)
        kept = copy.deepcopy(batch)
        rewritten = trainer.strategy.batch_to_device(batch)
        assert_mixed(layout, size, kept, rewritten)
        for key in (input_key, target_key):
            assert torch.equal(get_field(batch, key), get_field(kept, key))  # the user's own stays as it was


class Anything(Student):
    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.keep(batch)
        return self.layer(get_field(batch, self.layout.keys[0]).float().flatten(1)).square().mean()


def fitted(folder: Path, layout: Layout) -> None:
    input_key, _, target_key = layout.keys
    batches = [layout.batch(size, step) for step, size in enumerate(layout.sizes)]
    kept = copy.deepcopy(batches)
    callback = make_callback(
        mixer=layout.mixer,
        engine=layout.make_engine(),
        mode=layout.mode,
        targets=layout.targets,
        input_key=input_key,
        target_key=target_key,
    )
    student = Anything(layout)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "None of the . sets of a batch was solved")
        make_trainer(folder, callback).fit(student, loader_of(batches))
    assert len(student.batches) == len(layout.sizes)
    for size, before, after in zip(layout.sizes, kept, student.batches, strict=True):
        assert_mixed(layout, size, before, after)


def drawn(check: Callable[[Layout], None], examples: int) -> int:
    """Check so many layouts; give the number of their batches."""
    sizes: list[int] = []

    @given(layout=layouts)
    @settings(repeatable, max_examples=examples)
    def each(layout: Layout) -> None:
        check(layout)
        sizes.extend(layout.sizes)

    each()
    return len(sizes)


def test_thirty_batches() -> None:
    assert drawn(caught, 15) >= 30


@pytest.mark.slow
def test_a_thousand_batches() -> None:
    assert drawn(caught, 400) >= 1000


@pytest.mark.filterwarnings("ignore:k=1")
def test_ten_batches_in_fits(tmp_path: Path) -> None:
    assert drawn(lambda layout: fitted(tmp_path, layout), 5) >= 10


@pytest.mark.filterwarnings("ignore:k=1")
@pytest.mark.slow
def test_hundreds_of_batches_in_fits(tmp_path: Path) -> None:
    assert drawn(lambda layout: fitted(tmp_path, layout), 100) >= 250
