"""A moving average of a module, and copies of modules that a trainer holds."""

import copy
import pickle
import re
import threading
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.utils.prune
from pytorch_lightning.callbacks import EarlyStopping
from torch import Tensor, nn

from supermix_pl import MovingAverage
from supermix_pl.teacher.copying import copy_of
from supermix_pl.teacher.moving_average import check_gives_logits, check_whole


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.head = nn.Linear(3, 4)
        self.register_buffer("count", torch.tensor(0))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.norm(images).mean(dim=(2, 3)))


def shift(module: nn.Module, by: float) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(by)


def test_average_is_the_recurrence_with_a_decay_that_grows() -> None:
    module, average = Network(), MovingAverage(decay=0.3)
    teacher = average.start(module, 0)
    expected = module.head.weight.detach().double().clone()
    for step, decay in enumerate([2 / 11, 3 / 12, 0.3, 0.3], start=1):  # (1 + t) / (10 + t), and never more than decay
        shift(module, step)
        average.update(module, step)
        expected = decay * expected + (1 - decay) * module.head.weight.detach().double()
        torch.testing.assert_close(teacher.module.get_parameter("head.weight").double(), expected, atol=1e-5, rtol=1e-5)
    assert average.updates == 4
    assert average.milliseconds > 0


def test_start_is_the_module_and_later_training_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    module, average = Network(), MovingAverage()
    images = torch.rand(4, 3, 2, 2)
    teacher = average.start(module, 0)
    module.train()
    torch.testing.assert_close(teacher(images), copy.deepcopy(module).eval()(images))
    before = teacher(images)
    shift(module, 1.0)
    assert torch.equal(teacher(images), before)
    assert module.head.weight.requires_grad
    assert not any(parameter.requires_grad for parameter in teacher.module.parameters())


def test_buffers_are_taken_over_and_batch_norm_stays_in_eval_mode() -> None:
    module, average = Network(), MovingAverage()
    teacher = average.start(module, 0)
    module.norm(torch.rand(8, 3, 2, 2))
    module.get_buffer("count").add_(5)
    average.update(module, 1)
    assert torch.equal(teacher.module.get_buffer("norm.running_mean"), module.get_buffer("norm.running_mean"))
    assert teacher.module.get_buffer("count") == 5
    teacher.module.train()
    teacher(torch.rand(8, 3, 2, 2))
    assert torch.equal(teacher.module.get_buffer("norm.running_mean"), module.get_buffer("norm.running_mean"))


def test_no_update_without_a_step_of_the_optimiser() -> None:
    module, average = Network(), MovingAverage()
    average.start(module, 7)
    average.update(module, 7)
    assert average.updates == 0
    average.update(module, 8)
    average.update(module, 8)
    assert average.updates == 1


def test_state_goes_on_where_it_was() -> None:
    module, one, two = Network(), MovingAverage(), MovingAverage()
    one.start(module, 0)
    shift(module, 1.0)
    one.update(module, 1)
    two.load_state_dict(copy.deepcopy(one.state_dict()))
    assert two.state_dict()["updates"] == 1  # before it starts, too
    two.start(module, 1)
    for average in (one, two):
        shift(module, 0.5)
        average.update(module, 2)
        shift(module, -0.5)
    for name, value in one.state_dict()["weights"].items():
        assert torch.equal(value, two.state_dict()["weights"][name])
    two.start(module, 0)  # another run
    assert two.updates == 0
    torch.testing.assert_close(two.state_dict()["weights"]["head.weight"], module.head.weight.detach())


def test_state_of_what_never_started_is_no_state() -> None:
    average = MovingAverage()
    average.load_state_dict(MovingAverage().state_dict())
    average.start(Network(), 0)


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_decay_out_of_range(decay: float) -> None:
    with pytest.raises(ValueError, match=r"expected decay in \[0, 1\), got"):
        MovingAverage(decay)


def test_dtype_is_the_teachers() -> None:
    assert MovingAverage(dtype="bfloat16").start(Network(), 0).autocast_dtype is torch.bfloat16


class Classifier(pl.LightningModule):
    def __init__(self, callback: Any = None) -> None:
        super().__init__()
        self.network = Network()
        self.callback = callback

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)


def test_copies_leave_trainer_and_callbacks_behind() -> None:
    module = Classifier(EarlyStopping("loss"))
    module.trainer = pl.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    copied = copy_of(module)
    assert copied._trainer is None
    assert copied.callback is None
    assert module.callback is not None
    weight, own = (one.get_parameter("network.head.weight") for one in (copied, module))
    assert torch.equal(weight, own)
    assert weight is not own


def test_what_shards_is_refused() -> None:
    with pytest.raises(ValueError, match="whose weights every rank holds, got one that ModelParallelStrategy shards"):
        check_whole(Network(), "ModelParallelStrategy")
    check_whole(Network(), "DDPStrategy")


def test_a_module_without_forward_is_refused() -> None:
    class Silent(pl.LightningModule):
        pass

    with pytest.raises(ValueError, match=r"expected Silent to define forward\(images\)"):
        check_gives_logits(Silent())
    check_gives_logits(Classifier())


# What is hard to average or to copy


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_average_is_kept_in_float32(dtype: torch.dtype) -> None:
    """In bfloat16 it would freeze: a thousandth of a difference is less than half of its last digit."""
    module, average = Network().to(dtype), MovingAverage(0.999)
    with torch.no_grad():
        module.head.weight.fill_(1.0)
    teacher = average.start(module, 0)
    average.updates = 10_000
    with torch.no_grad():
        module.head.weight.fill_(2.0)
    for step in range(1, 1001):
        average.update(module, step)
    kept = average.state_dict()["weights"]["head.weight"]
    assert kept.dtype == torch.float32
    torch.testing.assert_close(kept, torch.full_like(kept, 2 - 0.999**1000), atol=1e-3, rtol=0)
    taught = torch.float32 if dtype == torch.float16 else dtype  # whose input gradients would underflow
    assert teacher.module.get_parameter("head.weight").equal(kept.to(taught))
    assert all(buffer.dtype in (taught, torch.int64) for buffer in teacher.module.buffers())
    again = MovingAverage()
    again.load_state_dict(average.state_dict())
    again.start(module, 1000)
    assert again.state_dict()["weights"]["head.weight"].equal(kept)


def old_weight_norm(module: Network) -> None:
    torch.nn.utils.weight_norm(module.head)


def new_weight_norm(module: Network) -> None:
    torch.nn.utils.parametrizations.weight_norm(module.head)


def keeps_features(module: Network) -> None:
    module.features = {"last": [module(torch.rand(2, 3, 2, 2))]}  # pyright: ignore[reportArgumentType]


def locks(module: Network) -> None:
    module.guard = SimpleNamespace(lock=threading.Lock())  # pyright: ignore[reportArgumentType]


def iterators(module: Network) -> None:
    module.batches = (batch for batch in ())  # pyright: ignore[reportArgumentType]
    module.held = [iter(torch.utils.data.DataLoader([0]))]  # pyright: ignore[reportArgumentType]


HARD = [
    pytest.param(old_weight_norm, marks=pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")),
    new_weight_norm,
    keeps_features,
    locks,
    iterators,
]


@pytest.mark.parametrize("make", HARD)
def test_modules_that_deepcopy_stumbles_over(make: Any) -> None:
    module, images = Network(), torch.rand(4, 3, 2, 2)
    make(module)
    module(images).sum().backward()
    average = MovingAverage(decay=0.0)
    teacher = average.start(module, 0)
    shift(module, 0.5)
    assert not torch.allclose(teacher(images), copy_of(module).eval()(images))
    average.update(module, 1)
    torch.testing.assert_close(teacher(images), copy_of(module).eval()(images))


def test_what_cannot_be_copied_is_refused_with_words() -> None:
    class Alone:
        def __deepcopy__(self, memo: Any) -> Any:
            raise TypeError("there is one of me")

    module = Network()
    module.one = Alone()  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"expected Network to be one that copy.deepcopy can copy.*there is one of me"):
        MovingAverage().start(module, 0)


class Twins(nn.Module):
    """Two layers of one shape."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.two(self.one(images))


def test_torchscript_is_refused_with_words() -> None:
    with pytest.warns((FutureWarning, DeprecationWarning), match="deprecated"):
        module = nn.Sequential(torch.jit.script(nn.Linear(2, 2)))
    with pytest.raises(ValueError, match="without TorchScript programs"):
        copy_of(module)


def test_weights_meet_by_name() -> None:
    module, average = Twins(), MovingAverage(decay=0.0)
    teacher = average.start(module, 0)
    module.one, module.two = nn.Linear(2, 2), nn.Linear(2, 2)
    module._modules["one"] = module._modules.pop("one")  # now the last
    average.update(module, 1)
    for name in ("one.weight", "two.weight"):
        torch.testing.assert_close(teacher.module.get_parameter(name), module.get_parameter(name))


def prunes(module: Twins) -> None:
    torch.nn.utils.prune.l1_unstructured(module.one, "weight", 0.5)


def grows(module: Twins) -> None:
    module.three = nn.Linear(2, 2)


def widens(module: Twins) -> None:
    module.two = nn.Linear(2, 3)


def adds_a_part(module: Twins) -> None:
    module.four = nn.ReLU()


@pytest.mark.parametrize(
    ("change", "got"),
    [
        (prunes, "1 new ('one.weight_orig' first), 1 gone ('one.weight' first)"),
        (grows, "2 new ('three.bias' first)"),
        (widens, "2 of another shape ('two.bias' first)"),
        (adds_a_part, "another part 'four'"),
    ],
)
def test_other_parameters_are_refused_by_name(change: Any, got: str) -> None:
    module, average = Twins(), MovingAverage()
    average.start(module, 0)
    change(module)
    with pytest.raises(ValueError, match=f"expected the trained module to keep its parameters.*{re.escape(got)}"):
        average.update(module, 1)


def test_the_average_of_another_module_is_refused() -> None:
    average = MovingAverage()
    average.start(Twins(), 0)
    other = MovingAverage()
    other.load_state_dict(average.state_dict())
    with pytest.raises(ValueError, match="expected the trained module to keep its parameters"):
        other.start(Network(), 0)


def test_buffers_of_later_are_taken_over() -> None:
    module, average = Network(), MovingAverage()
    teacher = average.start(module, 0)
    module.register_buffer("queue", torch.ones(3))
    module.count = torch.zeros(2)
    del module.norm._buffers["num_batches_tracked"]
    average.update(module, 1)
    assert dict(teacher.module.named_buffers()).keys() == dict(module.named_buffers()).keys()
    assert teacher.module.get_buffer("queue").equal(torch.ones(3))
    assert teacher.module.get_buffer("count").shape == (2,)


def test_layers_that_are_not_built_yet_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"expected a module whose layers have all their weights, got '(weight|bias)' of a lazy"
    ):
        MovingAverage().start(LazyNetwork(), 0)


class LazyNetwork(nn.LazyLinear):
    def __init__(self) -> None:
        super().__init__(3)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input)


def test_copies_begin_anew() -> None:
    average = MovingAverage(0.5, dtype="bfloat16")
    average.start(Network(), 0)
    for other in (copy.deepcopy(average), pickle.loads(pickle.dumps(average))):
        assert (other.decay, other.dtype, other.module) == (0.5, "bfloat16", None)
    assert repr(average) == "MovingAverage(decay=0.5, dtype=bfloat16)"
