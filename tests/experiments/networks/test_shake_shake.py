"""Shake-Shake: random weights forward and backward, one for each image, and halves in eval mode."""

from typing import Any

import pytest
import torch
from torch import Tensor

from supermix_pl.experiments.networks import ShakeResNet
from supermix_pl.experiments.networks.shake_shake import ShakeShake, Shortcut, shake


def branches(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    first, second = torch.randn(2, 64, 3, 4, 4, generator=torch.Generator().manual_seed(1)).to(dtype)
    return first.requires_grad_(), second.requires_grad_()


def test_alpha_weighs_forward_and_beta_backward() -> None:
    first, second = branches()
    alpha, beta = torch.rand(2, 64, 1, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    mixed = ShakeShake.apply(first, second, alpha, beta)
    torch.testing.assert_close(mixed, alpha * first + (1 - alpha) * second)
    sent = torch.randn(mixed.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    mixed.backward(sent)
    torch.testing.assert_close(first.grad, beta * sent)
    torch.testing.assert_close(second.grad, (1 - beta) * sent)


def weights_of(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """The weights of the first branch, forward and backward, for each image."""
    mixed = shake(first, second)
    alpha = ((mixed - second) / (first - second)).flatten(1)
    (beta,) = torch.autograd.grad(mixed.sum(), first)
    torch.testing.assert_close(alpha, alpha[:, :1].expand_as(alpha))
    torch.testing.assert_close(beta, beta[:, :1, :1, :1].expand_as(beta))
    return alpha[:, 0].detach(), beta[:, 0, 0, 0]


def test_weights_are_drawn_for_each_image_and_differ_forward_and_backward() -> None:
    torch.manual_seed(0)
    alpha, beta = weights_of(*branches())
    again, _ = weights_of(*branches())
    for weights in (alpha, beta):
        assert weights.unique().numel() == 64
        assert weights.min() >= 0
        assert weights.max() <= 1
        assert weights.mean().item() == pytest.approx(0.5, abs=0.15)  # 4 standard errors
        assert weights.std().item() == pytest.approx(12**-0.5, abs=0.1)
    assert not torch.allclose(alpha, beta)
    assert not torch.allclose(alpha, again)
    torch.manual_seed(0)
    repeated = weights_of(*branches())
    assert torch.equal(repeated[0], alpha)
    assert torch.equal(repeated[1], beta)


def test_bfloat16_stays_bfloat16() -> None:
    first, second = branches(torch.bfloat16)
    mixed = shake(first, second)
    mixed.sum().backward()
    assert first.grad is not None
    assert (mixed.dtype, first.grad.dtype) == (torch.bfloat16, torch.bfloat16)


def small() -> Any:
    torch.manual_seed(0)
    return ShakeResNet(depth=14, width=4, num_classes=5)


def test_eval_mode_draws_nothing_and_weighs_halves() -> None:
    network = small().eval()
    state = torch.get_rng_state()
    features = torch.randn(2, 16, 8, 8, generator=torch.Generator().manual_seed(4))
    block = network.layer1[0]
    expected = 0.5 * block.branch1(features) + 0.5 * block.branch2(features) + block.shortcut(features)
    torch.testing.assert_close(block(features), expected)
    block, features = network.layer1[1], features[:, :4]
    expected = 0.5 * block.branch1(features) + 0.5 * block.branch2(features) + features
    torch.testing.assert_close(block(features), expected)
    assert torch.equal(torch.get_rng_state(), state)


def test_training_repeats_with_the_seed_alone() -> None:
    network = small().train()
    images = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(5))
    torch.manual_seed(1)
    first, second = network(images), network(images)
    torch.manual_seed(1)
    assert torch.equal(network(images), first)
    assert not torch.allclose(first, second)


def test_frozen_shortcuts_are_those_without_use() -> None:
    network = small()
    blocks = [block for stage in (network.layer1, network.layer2, network.layer3) for block in stage]
    assert [block.same_shape for block in blocks] == [False, True] * 3
    for block in blocks:
        assert all(weight.requires_grad != block.same_shape for weight in block.shortcut.parameters())


def test_second_half_of_a_shortcut_reads_the_pixel_below_and_to_the_right() -> None:
    shortcut = Shortcut(1, 2, stride=2).eval()
    torch.nn.init.ones_(shortcut.conv1.weight)
    torch.nn.init.ones_(shortcut.conv2.weight)
    pixels = torch.arange(1.0, 17.0).reshape(1, 1, 4, 4)
    first, second = shortcut(pixels)[0] * (1 + shortcut.bn.eps) ** 0.5
    torch.testing.assert_close(first, torch.tensor([[1.0, 3.0], [9.0, 11.0]]))
    torch.testing.assert_close(second, torch.tensor([[6.0, 8.0], [14.0, 16.0]]))
