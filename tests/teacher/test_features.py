"""The output of a part of the teacher, beside its logits."""

import shutil
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from supermix_pl import FrozenTeacher
from tests.integration.test_teacher_features import network

IMAGES = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize(("name", "depth"), [("conv", 1), ("norm", 2), ("relu", 3), ("head", 5)])
def test_they_are_what_the_part_gives(name: str, depth: int, fold: bool) -> None:
    """Folding changes what a convolution gives: it is left undone then."""
    module = network()
    teacher = FrozenTeacher(module, features=name, fold=fold)
    logits, features = teacher.look(IMAGES)
    expected = module[:depth](IMAGES)
    torch.testing.assert_close(features, expected.detach())
    torch.testing.assert_close(logits, module(IMAGES))
    assert (teacher.network(IMAGES) is not module) == (fold and name != "conv")
    assert not any(part._forward_hooks for net in (module, teacher.network(IMAGES)) for part in net.modules())
    leaf = IMAGES.clone().requires_grad_()
    logits, features = teacher.look(leaf)
    assert logits.requires_grad
    assert features is not None
    assert not features.requires_grad


def test_they_follow_the_weights() -> None:
    module = network()
    teacher = FrozenTeacher(module, features="norm")
    teacher.look(IMAGES)
    with torch.no_grad():
        module[1].bias.add_(1.0)  # pyright: ignore
    torch.testing.assert_close(teacher.look(IMAGES)[1], module[:2](IMAGES).detach())


def test_they_are_in_the_weights_dtype() -> None:
    _, features = FrozenTeacher(network(), features="norm", dtype=torch.bfloat16).look(IMAGES)
    assert features is not None
    assert features.dtype == torch.float32
    torch.testing.assert_close(features, network()[:2](IMAGES).detach(), atol=0.05, rtol=0.05)
    assert FrozenTeacher(network().double(), features="norm").look(IMAGES)[1].dtype == torch.float64  # pyright: ignore
    assert FrozenTeacher(network()).look(IMAGES)[1] is None


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_compiled_passes_give_them_too() -> None:
    teacher = FrozenTeacher(network(), features="norm", compile=True)
    for rows in (3, 2, 3):
        logits, features = teacher.look(IMAGES[:rows])
        torch.testing.assert_close(features, network()[:2](IMAGES[:rows]).detach())
        torch.testing.assert_close(logits, network()(IMAGES[:rows]).detach())


class Odd(nn.Module):
    """Parts that give no rows, and one that is never used."""

    def __init__(self) -> None:
        super().__init__()
        self.flat, self.head, self.unused, self.whole = nn.Flatten(), nn.Linear(192, 3), nn.ReLU(), Both()

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.whole(self.flat(images))[0])


class Both(nn.Module):
    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        return rows, rows


@pytest.mark.parametrize(
    ("module", "name", "message"),
    [
        (network(), "nrom", "part of Sequential, such as norm.*, got 'nrom'"),
        (network(), "", "expected features as the name of a part"),
        (Odd(), "unused", "expected features='unused' to run in each pass .* got NoneType; name another part"),
        (Odd(), "whole", "expected features='whole' .* got tuple"),
    ],
)
def test_names_that_give_none(module: Any, name: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FrozenTeacher(module, features=name).look(IMAGES)


@pytest.mark.filterwarnings("ignore")  # scripting is deprecated
def test_a_script_keeps_its_parts_to_itself() -> None:
    script = torch.jit.script(network())
    with pytest.raises(ValueError, match="expected features=None for a TorchScript program"):
        FrozenTeacher(script, features="norm").look(IMAGES)  # pyright: ignore
