"""Sums that the configs ask for: `${epochs:240,0.5}`; and what the hardware is good at."""

import torch
from omegaconf import OmegaConf

_SLOW_RATES = ("MobileNetV2", "ShuffleV1", "ShuffleV2")


def epochs(whole: float, share: float) -> int:
    """Return a share of a number of epochs, at least one.

    Raises:
        ValueError: If the share is negative.
    """
    if share < 0:
        raise ValueError(f"expected scale.epochs >= 0, a share of the protocol's {whole:g} epochs, got {share}")
    return max(1, round(whole * share))


def validation_period(wanted: int, total: int | None) -> int:
    """Return the largest divisor of the epochs that is at most the wanted period, so that the last one is validated.

    Args:
        wanted: Epochs from one validation to the next, >= 1.
        total: Epochs of the training; the wanted period stands where there are none (0), or no limit (None, -1).

    Raises:
        ValueError: If the wanted period is below 1.
    """
    if wanted < 1:
        raise ValueError(f"expected validate_every >= 1, epochs from one validation to the next, got {wanted}")
    if total is None or total < 1:
        return wanted
    return max(period for period in range(1, min(wanted, total) + 1) if total % period == 0)


def learning_rate(rate: float, network: str) -> float:
    """Scale the learning rate of the mobile networks to a fifth, as the released code does."""
    return rate / 5 if network.rpartition(".")[2] in _SLOW_RATES else rate


def precision(accelerator: str) -> str:
    """Return the precision to train in: bfloat16 where the hardware has it, which it takes much longer to imitate.

    Args:
        accelerator: As `pl.Trainer` takes it; "cpu" even where there is a GPU.
    """
    return "bf16-mixed" if _has_bfloat16(accelerator) else "32-true"


def bfloat16(accelerator: str) -> str | None:
    """Return the dtype of a teacher's passes, likewise: "bfloat16", or None for that of its weights.

    Args:
        accelerator: As `pl.Trainer` takes it; "cpu" even where there is a GPU.
    """
    return "bfloat16" if _has_bfloat16(accelerator) else None


def _has_bfloat16(accelerator: str) -> bool:
    on_gpu = accelerator != "cpu" and torch.cuda.is_available()
    return on_gpu or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def register() -> None:
    """Make them known to OmegaConf."""
    for resolver in (epochs, validation_period, learning_rate, precision, bfloat16):
        OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)
