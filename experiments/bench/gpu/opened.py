"""Untrained teachers on drawn images, made to tell the images apart."""

from dataclasses import dataclass

import torch
from hydra.utils import instantiate
from jaxtyping import Float, Int
from omegaconf import DictConfig
from torch import Tensor, nn

from supermix_pl import FrozenTeacher
from supermix_pl.experiments.data import Shapes

_PASSES_TO_CALIBRATE = 20
_SPREAD = 4.0


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A teacher on a device, with a batch of images there."""

    name: str  # of the networks
    teacher: FrozenTeacher  # in float32, with batch norm folded
    student: nn.Module  # likewise untrained
    images: Float[Tensor, "b c h w"]
    labels: Int[Tensor, " b"]  # their classes


def open_case(case: DictConfig, num_images: int, device: torch.device) -> Opened:
    """Build teacher and student of a case, and draw its images."""
    data = Shapes(train_size=1, test_size=num_images, size=case.size, eval_batch_size=num_images)
    data.setup()
    images, labels = next(iter(data.test_dataloader()))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        networks = [instantiate(case[name], num_classes=data.num_classes) for name in ("teacher", "student")]
    images, teacher = images.to(device), FrozenTeacher(networks[0]).to(device)
    calibrate(teacher, images)
    names = [str(case[name]._target_).rpartition(".")[2] for name in ("teacher", "student")]
    return Opened(
        name=", ".join(names), teacher=teacher, student=networks[1].to(device), images=images, labels=labels.to(device)
    )


@torch.no_grad()
def calibrate(teacher: FrozenTeacher, images: Float[Tensor, "b c h w"]) -> None:
    """Fit an untrained network's batch norm and last layer to images, so that it gives them different classes.

    Raises:
        ValueError: If it does not end in a linear layer.
    """
    module = teacher.module.train()
    for _ in range(_PASSES_TO_CALIBRATE):
        module(images)
    module.eval()
    last = [part for part in module.modules() if isinstance(part, nn.Linear)][-1:]
    logits = module(images)
    if not last or last[0].out_features != logits.shape[1]:
        raise ValueError(f"expected a network that ends in a linear layer, got {type(module).__name__}")
    scale = _SPREAD / logits.std(dim=0).mean().clamp_min(1e-12)
    last[0].weight *= scale
    last[0].bias.copy_((last[0].bias - logits.mean(dim=0)) * scale)
    teacher.refold()
