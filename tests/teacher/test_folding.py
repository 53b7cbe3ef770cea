"""Batch norm folded into convolutions: the same logits from a private copy, or the network itself, and never stale."""

import copy
import pickle
from collections.abc import Callable
from threading import Thread
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.utils._python_dispatch import TorchDispatchMode

from supermix_pl import FrozenTeacher
from supermix_pl.experiments.networks import resnet8, wrn_16_1
from supermix_pl.teacher.folding import fold_batch_norm
from tests.problems import repeatable


def images(count: int = 3, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(count, 3, 9, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


def norm(channels: int, **options: Any) -> nn.BatchNorm2d:
    """A batch norm that does something."""
    made = nn.BatchNorm2d(channels, **options)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(channels)
        for tensor in (made.running_mean, made.weight, made.bias):
            if tensor is not None:
                tensor.normal_()
        if made.running_var is not None:
            made.running_var.uniform_(0.2, 3.0)
    return made


class Net(nn.Module):
    """Convolution, batch norm, and a head; how they are joined is up to `join`."""

    def __init__(self, join: Callable[["Net", Tensor], Tensor], **parts: nn.Module) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.conv, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 5)
            self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.bn, self.other = norm(4), norm(4)
        for name, part in parts.items():
            setattr(self, name, part)
        self.join = join
        self.double().eval()

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(self.join(self, pixels).relu().mean(dim=(2, 3)))


def plain(net: Net, x: Tensor) -> Tensor:
    return net.bn(net.conv(x))


def num_norms(module: nn.Module) -> int:
    return sum(type(part) is nn.BatchNorm2d for part in module.modules())


def network_of(teacher: FrozenTeacher) -> nn.Module:
    return teacher.network(teacher.prepare(images()))


# What is folded


@settings(repeatable, max_examples=12)
@given(
    bias=st.booleans(),
    affine=st.booleans(),
    groups=st.sampled_from([1, 3]),
    stride=st.sampled_from([1, 2]),
    padding_mode=st.sampled_from(["zeros", "reflect"]),
    eps=st.sampled_from([1e-5, 0.1]),
)
def test_logits_and_gradients_are_the_same_to_rounding(
    bias: bool, affine: bool, groups: int, stride: int, padding_mode: str, eps: float
) -> None:
    conv = nn.Conv2d(3, 6, 3, stride, padding=1, groups=groups, bias=bias, padding_mode=padding_mode)  # pyright: ignore[reportArgumentType]
    module = nn.Sequential(conv, norm(6, affine=affine, eps=eps), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    module.double()
    teacher, expected = FrozenTeacher(module), FrozenTeacher(copy.deepcopy(module), fold=False)
    found = []
    for each in (teacher, expected):
        pixels = images().requires_grad_()
        logits = each(pixels)
        (gradient,) = torch.autograd.grad(logits.square().sum(), pixels)
        found.append((logits.detach(), gradient))
    torch.testing.assert_close(found[0], found[1], rtol=1e-10, atol=1e-12)
    assert num_norms(network_of(teacher)) == 0
    assert num_norms(network_of(expected)) == 1


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("build", "left"), [(resnet8, 0), (wrn_16_1, 7)])
def test_networks(build: Callable[..., nn.Module], left: int) -> None:
    module = build(num_classes=10).double()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.load_state_dict(norm(part.num_features).state_dict())
    teacher = FrozenTeacher(module)
    pixels = torch.randn(4, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(teacher(pixels), module(pixels), rtol=1e-9, atol=1e-9)
    assert num_norms(network_of(teacher)) == left


def test_the_users_module_stays_as_it_is() -> None:
    module = Net(plain)
    before, parts = copy.deepcopy(module.state_dict()), list(module.modules())
    teacher = FrozenTeacher(module)
    teacher(images())
    assert network_of(teacher) is not module
    assert teacher.module is module
    assert list(module.modules()) == parts
    assert all(value.equal(before[name]) for name, value in module.state_dict().items())
    shared = {value.data_ptr() for value in module.state_dict().values()}
    assert not shared & {value.data_ptr() for value in network_of(teacher).state_dict().values()}
    assert not any(parameter.requires_grad for parameter in network_of(teacher).parameters())


def test_no_copy_if_not_asked() -> None:
    teacher = FrozenTeacher(Net(plain), fold=False)
    teacher(images())
    assert network_of(teacher) is teacher.module


# What is not


class Doubled(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input) + 1


class Twice(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


def parametrized() -> nn.Conv2d:
    conv = nn.Conv2d(3, 4, 3, padding=1)
    parametrize.register_parametrization(conv, "weight", Twice())
    return conv


def hooked() -> nn.Conv2d:
    conv = nn.Conv2d(3, 4, 3, padding=1)
    conv.register_forward_hook(lambda module, inputs, output: output.mul(3))
    return conv


def leaves_its_features(net: Net, x: Tensor) -> Tensor:
    net.features = plain(net, x)
    return net.features


UNSURE: dict[str, Callable[[], nn.Module]] = {
    "read twice": lambda: Net(lambda net, x: net.bn(y := net.conv(x)) + y),
    "convolved twice": lambda: Net(lambda net, x: net.bn(net.conv(x)) + net.other(net.conv(x.flip(2)))),
    "normalised twice": lambda: Net(lambda net, x: net.bn(net.conv(x)) + net.bn(net.second(net.conv(x)))),
    "its weights are read": lambda: Net(lambda net, x: plain(net, x) + F.conv2d(x, net.conv.weight, padding=1)),
    "the norm's statistics are read": lambda: Net(
        lambda net, x: plain(net, x) + net.bn.running_mean[:, None, None]  # pyright: ignore[reportOptionalSubscript]
    ),
    "the norm's attributes are read": lambda: Net(lambda net, x: plain(net, x) * net.bn.num_features),
    "something in between": lambda: Net(lambda net, x: net.bn(net.conv(x).relu())),
    "a branch on the values": lambda: Net(lambda net, x: plain(net, x) if x.mean() > 0 else net.conv(x)),
    "a branch on the size": lambda: Net(lambda net, x: plain(net, x) if len(x) > 2 else net.conv(x)),
    "statistics of the batch": lambda: Net(plain, bn=norm(4, track_running_stats=False)),
    "a subclass": lambda: Net(plain, conv=Doubled(3, 4, 3, padding=1)),
    "a parametrised weight": lambda: Net(plain, conv=parametrized()),
    "a hook": lambda: Net(plain, conv=hooked()),
    "features are left behind": lambda: Net(leaves_its_features),
}


@pytest.mark.parametrize("name", UNSURE)
def test_unsure_structures_run_as_they_are(name: str) -> None:
    module = UNSURE[name]()
    teacher = FrozenTeacher(module)
    for pixels in (images(), -images(), images(2), 5 * images(4)):
        assert teacher(pixels).equal(module(pixels))
    assert network_of(teacher) is module


def test_what_can_be_folded_is_beside_what_cannot() -> None:
    module = Net(lambda net, x: net.other(net.second(y := net.bn(net.conv(x)).relu())) + net.conv.weight.sum() * y)
    teacher = FrozenTeacher(module)
    torch.testing.assert_close(teacher(images()), module(images()), rtol=1e-10, atol=1e-12)
    assert num_norms(network_of(teacher)) == 1


def test_modules_that_another_thread_calls_meanwhile_are_let_through() -> None:
    beside, said = nn.Identity(), []  # as a transform of torchvision in a thread that loads images

    def while_loading(net: Net, x: Tensor) -> Tensor:
        loading = Thread(target=lambda: said.append(beside(1)))
        loading.start()
        loading.join()
        return plain(net, x)

    assert fold_batch_norm(Net(while_loading)) is not None
    assert said == [1]


def test_nothing_to_fold() -> None:
    assert fold_batch_norm(nn.Sequential(nn.Conv2d(3, 4, 3))) is None
    assert fold_batch_norm(nn.BatchNorm2d(3).eval()) is None
    assert fold_batch_norm(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))) is None  # in training mode


def test_a_copy_that_does_not_agree_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = Net(plain)
    monkeypatch.setattr("supermix_pl.teacher.folding.fold_batch_norm", lambda module: copy.deepcopy(wrong))
    module = Net(plain)
    with torch.no_grad():
        module.head.bias.add_(1)
    teacher = FrozenTeacher(module)
    assert teacher(images()).equal(module(images()))
    assert network_of(teacher) is module


def test_nan_in_the_first_images_is_no_disagreement() -> None:
    teacher = FrozenTeacher(Net(plain))
    assert teacher(torch.full_like(images(), torch.nan)).isnan().all()
    assert network_of(teacher) is not teacher.module


# Weights that are cast once


def float_net(join: Callable[[Net, Tensor], Tensor] = plain, **parts: nn.Module) -> Net:
    net = Net(join, **parts)
    net.float()
    return net


def dtypes_of(teacher: FrozenTeacher) -> dict[str, torch.dtype]:
    network = teacher.network(teacher.prepare(images(dtype=torch.float32)))
    return {name: weight.dtype for name, weight in network.named_parameters() if name.startswith(("conv", "head"))}


@pytest.mark.parametrize("make", [float_net, lambda: wrn_16_1(num_classes=5).eval()])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.usefixtures("unchecked")  # a checked network cannot be traced
def test_a_pass_in_bf16_casts_no_weight_and_gives_the_same(make: Callable[[], nn.Module], channels_last: bool) -> None:
    module = make()
    pixels = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    teacher = FrozenTeacher(module, dtype="bfloat16", channels_last=channels_last)
    folded = FrozenTeacher(module, channels_last=channels_last)
    network = folded.network(folded.prepare(pixels))
    with torch.autocast("cpu", torch.bfloat16):
        expected = network(teacher.prepare(pixels)).float()
    found = teacher(pixels)
    assert found.equal(expected)
    assert all(
        one.equal(two)
        for one, two in zip(
            torch.autograd.grad(found.sum(), pixels), torch.autograd.grad(expected.sum(), pixels), strict=True
        )
    )
    with CountCasts() as casts:
        teacher(pixels.detach())
    assert casts.count <= 3  # the images on their way in, the logits on their way out
    assert all(weight.dtype == torch.float32 for weight in module.parameters())


class CountCasts(TorchDispatchMode):
    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.overloadpacket is torch.ops.aten._to_copy
        return func(*args, **(kwargs or {}))


def cosine(net: Net, x: Tensor) -> Tensor:
    return plain(net, x) * F.normalize(net.head.weight, dim=1).sum()


def apart(net: Net, x: Tensor) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        return plain(net, x)


@pytest.mark.parametrize(
    ("join", "kept"), [(plain, []), (cosine, ["head.weight", "head.bias"]), (apart, ["conv.weight", "head.weight"])]
)
def test_weights_that_something_else_reads_stay(join: Callable[[Net, Tensor], Tensor], kept: list[str]) -> None:
    module = float_net(join)
    teacher = FrozenTeacher(module, dtype="bfloat16")
    dtypes = dtypes_of(teacher)
    assert all(dtypes[name] == torch.float32 for name in kept)
    assert (torch.bfloat16 in dtypes.values()) == (join is not apart)
    pixels = images(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        expected = module(pixels).float()
    torch.testing.assert_close(teacher(pixels), expected, rtol=0.02, atol=0.05)


class Idiom(Net):
    """Gives logits in the dtype of its weights."""

    def forward(self, pixels: Tensor) -> Tensor:
        return super().forward(pixels).float().to(next(self.parameters()).dtype)


def test_weights_whose_dtype_something_reads_stay() -> None:
    module = Idiom(plain).float()
    teacher = FrozenTeacher(module, dtype="bfloat16")
    pixels = images(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        expected = module(pixels)
    torch.testing.assert_close(teacher(pixels), expected, rtol=0.02, atol=0.05)
    assert set(dtypes_of(teacher).values()) == {torch.float32}


def test_a_head_that_is_kept_out_of_autocast_stays_and_the_convolutions_do_not() -> None:
    class Exact(Net):
        def forward(self, pixels: Tensor) -> Tensor:
            features = self.join(self, pixels).mean(dim=(2, 3))
            with torch.autocast("cpu", enabled=False):
                return self.head(features.float())

    dtypes = dtypes_of(FrozenTeacher(Exact(plain).float(), dtype="bfloat16"))
    assert dtypes["conv.weight"] == torch.bfloat16
    assert dtypes["head.weight"] == torch.float32


def test_without_a_dtype_weights_stay() -> None:
    assert set(dtypes_of(FrozenTeacher(float_net())).values()) == {torch.float32}
    assert set(dtypes_of(FrozenTeacher(float_net().to(torch.bfloat16))).values()) == {torch.bfloat16}


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_a_network_that_works_in_place_sees_its_first_images_as_they_are(dtype: torch.dtype | None) -> None:
    module = Net(lambda net, x: plain(net, x.sub_(3.0).div_(2.0))).float()
    pixels, tolerance = images(dtype=torch.float32), 1e-4 if dtype is None else 0.1
    expected = module(pixels.clone())
    teacher = FrozenTeacher(module, dtype=dtype)
    torch.testing.assert_close(teacher(pixels), expected, rtol=tolerance, atol=tolerance)
    assert network_of(teacher) is not module


# What changes later


def reload(module: Net) -> None:
    module.load_state_dict({name: 1.5 * value for name, value in module.state_dict().items()})


def train(module: Net) -> None:
    with torch.no_grad():
        torch._foreach_mul_(list(module.parameters()), 0.5)  # pyright: ignore[reportPrivateImportUsage]


def replace_data(module: Net) -> None:
    for parameter in module.parameters():
        parameter.data = 2 * parameter.data


def replace_part(module: Net) -> None:
    module.bn = copy.deepcopy(module.other)
    module.bn.weight.data *= 3


def recalibrate(module: Net) -> None:
    assert module.bn.running_var is not None
    module.bn.running_var.mul_(4)


@pytest.mark.parametrize("change", [reload, train, replace_data, replace_part, recalibrate, Net.float])
@pytest.mark.parametrize("channels_last", [False, True])
def test_the_copy_is_never_stale(change: Callable[[Net], Any], channels_last: bool) -> None:
    module = Net(plain)
    teacher = FrozenTeacher(module, channels_last=channels_last)
    before = teacher(images())
    change(module)
    teacher.weight_dtype = module.head.weight.dtype
    expected = module(images().to(teacher.weight_dtype))
    torch.testing.assert_close(teacher(images()).to(expected), expected, rtol=1e-5, atol=1e-6)
    assert network_of(teacher) is not module
    assert change is Net.float or not torch.allclose(before, expected)


class Shift:
    """Code with a setting, outside of a `__dict__`."""

    __slots__ = "by"

    def __init__(self) -> None:
        self.by = 0.0

    def __call__(self, logits: Tensor) -> Tensor:
        return logits + self.by


class TwiceLinear(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


class Settings(Net):
    """Reads more than tensors."""

    def __init__(self) -> None:
        super().__init__(plain)
        self.temperature, self.flag = 1.0, False
        self.options: Any = {"scales": [1.0, 1.0]}
        self.config: Any = (SimpleNamespace(shift=0.0),)
        self.shift, self.scale, self.names = Shift(), torch.ones(5, dtype=torch.float64), {"x"}
        self.table, self.scales = np.ones(5), [torch.ones(5, dtype=torch.float64)]

    def forward(self, pixels: Tensor) -> Tensor:
        logits = super().forward(pixels) / self.temperature * self.options["scales"][1] + self.config[0].shift
        logits = self.shift(logits) * self.scale * self.scales[0] * torch.from_numpy(self.table) * len(self.names)
        return -logits if self.flag else logits


def scaled(module: Settings) -> None:
    module.options["scales"][1] = 2.0


def shifted(module: Settings) -> None:
    module.config[0].shift = 1.0


def replaced(module: Settings) -> None:
    module.forward = lambda pixels: 3 * Settings.forward(module, pixels)


SETTINGS: dict[str, Callable[[Settings], Any]] = {
    "a number": lambda module: setattr(module, "temperature", 4.0),
    "a flag": lambda module: setattr(module, "flag", True),
    "eps": lambda module: setattr(module.bn, "eps", 2.0),
    "an entry of a list": scaled,
    "a field of an object": shifted,
    "forward": replaced,
    "forward of a part": lambda module: setattr(
        module.head, "forward", lambda x: nn.Linear.forward(module.head, x) + 1
    ),
    "a setting of code": lambda module: setattr(module.shift, "by", 1.0),
    "a set": lambda module: module.names.add("y"),
    "the class of a part": lambda module: setattr(module.head, "__class__", TwiceLinear),
    "an array in place": lambda module: np.multiply(module.table, 2, out=module.table),
    "a tensor in place": lambda module: module.scale.mul_(2),
    "a tensor in a list in place": lambda module: module.scales[0].mul_(2),
    "mode of a part": lambda module: module.bn.train(),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_change_that_is_no_tensor_is_seen(name: str) -> None:
    module = Settings()
    teacher = FrozenTeacher(module)
    before = teacher(images())
    assert network_of(teacher) is not module
    SETTINGS[name](module)
    found = teacher(images())
    assert not torch.allclose(before, found)
    torch.testing.assert_close(found, module(images()), rtol=1e-10, atol=1e-12)


def test_a_change_of_the_class_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    module = Settings()
    teacher = FrozenTeacher(module)
    before = teacher(images())
    monkeypatch.setattr(Settings, "forward", lambda self, pixels: 2 * Net.forward(self, pixels))
    torch.testing.assert_close(teacher(images()), 2 * before, rtol=1e-10, atol=1e-12)


def test_what_is_written_past_the_counters_is_seen_after_refold() -> None:
    module = Net(plain)
    teacher = FrozenTeacher(module)
    teacher(images())
    module.conv.weight.data.mul_(2)
    teacher.refold()
    torch.testing.assert_close(teacher(images()), module(images()), rtol=1e-10, atol=1e-12)


def test_an_unchanged_network_keeps_its_copy() -> None:
    teacher = FrozenTeacher(Net(plain))
    first = network_of(teacher)
    teacher(images())
    teacher.to("cpu")
    assert network_of(teacher) is first


def test_hooks_of_later_are_called() -> None:
    module, seen = Net(plain), []
    teacher = FrozenTeacher(module)
    teacher(images())
    handle = module.conv.register_forward_hook(lambda *_: seen.append(1))
    teacher(images())
    assert seen == [1]
    handle.remove()
    assert network_of(teacher) is not module


def test_a_first_call_in_inference_mode_leaves_a_copy_for_gradients() -> None:
    teacher = FrozenTeacher(Net(plain))
    with torch.inference_mode():
        teacher(images())
    pixels = images().requires_grad_()
    (gradient,) = torch.autograd.grad(teacher(pixels).sum(), pixels)
    assert gradient.abs().sum() > 0


def test_the_copy_stays_out_of_pickles() -> None:
    teacher = FrozenTeacher(wrn_16_1(num_classes=5))
    before = len(pickle.dumps(teacher))
    teacher(torch.rand(2, 3, 32, 32))
    assert len(pickle.dumps(teacher)) < 1.01 * before


def test_a_copied_teacher_follows_its_own_module() -> None:
    teacher = FrozenTeacher(Net(plain))
    before = teacher(images())
    other = copy.deepcopy(teacher)
    reload(other.module)  # pyright: ignore[reportArgumentType]
    torch.testing.assert_close(other(images()), other.module(images()), rtol=1e-10, atol=1e-12)
    assert teacher(images()).equal(before)


def test_bfloat16_weights_are_folded_to_their_rounding() -> None:
    module = Net(plain).to(torch.bfloat16)
    teacher = FrozenTeacher(module)
    logits, expected = teacher(images()), module.float()(images().float())
    torch.testing.assert_close(logits, expected.double(), rtol=0.05, atol=0.05)
