"""Shake-Shake regularisation (Gastaldi, 2017): two branches a block, mixed by random weights while training."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from supermix_pl.experiments.networks.classifier import (
    Images,
    Logits,
    convolution_and_norm,
    he_initialise,
    named,
    stage,
)


class ShakeShake(torch.autograd.Function):
    """alpha first + (1 - alpha) second, whose gradients are shared out by beta in place of alpha."""

    @staticmethod
    def forward(
        ctx: Any,
        first: Float[Tensor, "b c h w"],
        second: Float[Tensor, "b c h w"],
        alpha: Float[Tensor, "b 1 1 1"],
        beta: Float[Tensor, "b 1 1 1"],
    ) -> Float[Tensor, "b c h w"]:
        ctx.save_for_backward(beta)
        return torch.lerp(second, first, alpha)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """Share out the gradient; the weights have none."""
        (gradient,), (beta,) = gradients, ctx.saved_tensors
        return beta * gradient, (1 - beta) * gradient, None, None


def shake(first: Float[Tensor, "b c h w"], second: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Mix two branches with weights from U(0, 1), drawn anew for each image, forward and backward."""
    alpha, beta = torch.rand(2, len(first), 1, 1, 1, device=first.device).to(first.dtype)
    return ShakeShake.apply(first, second, alpha, beta)


class Shortcut(nn.Module):
    """Two 1x1 convolutions, half of the output each; with stride 2 they read pixels that are offset by one."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv1 = nn.Conv2d(in_channels, out_channels // 2, 1, bias=False)
        self.conv2 = nn.Conv2d(in_channels, out_channels // 2, 1, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, features: Float[Tensor, "b c_in h_in w_in"]) -> Float[Tensor, "b c_out h_out w_out"]:
        activated, every = F.relu(features), slice(None, None, self.stride)
        offset = F.pad(activated, (-1, 1, -1, 1))
        halves = self.conv1(activated[:, :, every, every]), self.conv2(offset[:, :, every, every])
        return self.bn(torch.cat(halves, dim=1))


class ShakeBlock(nn.Module):
    """Two branches of twice activation, 3x3 convolution and batch norm, mixed and added to the input.

    Deviation: A block that keeps its shape has a shortcut too, frozen and without use. The implementation behind the
    published Table 1 numbers (Fast AutoAugment's) has them by mistake, so its checkpoints and its number of parameters
    contain them.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.same_shape = stride == 1 and in_channels == out_channels
        self.shortcut = Shortcut(in_channels, out_channels, stride).requires_grad_(not self.same_shape)
        self.branch1 = _branch(in_channels, out_channels, stride)
        self.branch2 = _branch(in_channels, out_channels, stride)

    def forward(self, features: Float[Tensor, "b c_in h_in w_in"]) -> Float[Tensor, "b c_out h_out w_out"]:
        """Transforms features; the branches weigh 1/2 each in eval mode."""
        first, second = self.branch1(features), self.branch2(features)
        mixed = shake(first, second) if self.training else (first + second) / 2
        return mixed + (features if self.same_shape else self.shortcut(features))


class ShakeResNet(nn.Module):
    """ResNet of Shake-Shake blocks for small images: a 3x3 stem of 16, three stages, global average, one linear layer.

    Args:
        depth: 6 n + 2 for n blocks in a stage.
        width: Channels of the first stage, even; the others have 2 and 4 times as many.
        num_classes: Number of classes, at least 1.
    """

    def __init__(self, *, depth: int, width: int, num_classes: int) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.c_in = nn.Conv2d(3, 16, 3, padding=1)
        self.layer1 = stage(ShakeBlock, 16, width, blocks, stride=1)
        self.layer2 = stage(ShakeBlock, width, 2 * width, blocks, stride=2)
        self.layer3 = stage(ShakeBlock, 2 * width, 4 * width, blocks, stride=2)
        self.fc_out = nn.Linear(4 * width, num_classes)
        he_initialise(self)
        nn.init.zeros_(self.fc_out.bias)

    def forward(self, images: Images) -> Logits:
        features = self.layer3(self.layer2(self.layer1(self.c_in(images))))
        pooled = F.relu(features).mean(dim=(2, 3))
        return self.fc_out(pooled)


def _branch(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ReLU(),
        *convolution_and_norm(in_channels, out_channels, 3, stride),
        nn.ReLU(),
        *convolution_and_norm(out_channels, out_channels, 3),
    )


# 26 812 196 parameters at 100 classes, of which 26 227 556 are in use
shake_shake_26_2x96d = named("shake_shake_26_2x96d", ShakeResNet, depth=26, width=96)
