"""Sums that the configs ask for: `${epochs:240,0.5}`; what the hardware is good at; what folders are called."""

import hashlib
import re
from collections.abc import Collection, Sequence

import torch
from omegaconf import OmegaConf

_SLOW_RATES = ("MobileNetV2", "ShuffleV1", "ShuffleV2")
ALWAYS_NAMED = ("method", "pair", "seed")  # in folders of runs, where the command line gives them
_LONGEST_NAME = 150


def epochs(whole: float, share: float) -> int:
    """Return a share of a number of epochs, at least one."""
    if share < 0:
        raise ValueError(f"expected scale.epochs >= 0, a share of the protocol's {whole:g} epochs, got {share}")
    return max(1, round(whole * share))


def validation_period(wanted: int, total: int | None) -> int:
    """Return the largest divisor of the epochs that is at most the wanted period, so that the last one is validated.

    The wanted period, >= 1, stands where there are no epochs (0), or there is no limit (None, -1).
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
    """Return the precision to train in: bfloat16 where the hardware has it, which it takes much longer to imitate."""
    return "bf16-mixed" if _has_bfloat16(accelerator) else "32-true"


def bfloat16(accelerator: str) -> str | None:
    """Return the dtype of a teacher's passes, likewise: "bfloat16", or None for that of its weights."""
    return "bfloat16" if _has_bfloat16(accelerator) else None


def _has_bfloat16(accelerator: str) -> bool:
    on_gpu = accelerator != "cpu" and torch.cuda.is_available()
    return on_gpu or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def run_folder(experiment: str | None, overrides: Sequence[str]) -> str:
    """Return the folder of a run that is in no sweep: its experiment, and below it method, pair and seed if given.

    >>> run_folder("few_images", ["method=kd", "seed=1", "data.folder=a/b"]), run_folder(None, ["network=resnet8"])
    ('few_images/method=kd,seed=1', 'train')
    """
    named = [override for override in overrides if _key(override) in ALWAYS_NAMED]
    return "/".join([experiment or "train", *([_name(named)] if named else [])])


def job_folder(overrides: Sequence[str], left_out: Collection[str]) -> str:
    """Return the folder of a job of a sweep: its settings, without paths, at most 150 characters long.

    A hash tells names apart that would be too long, or that have other characters than a folder should.

    >>> job_folder(["seed=1", "method=kd", "data.folder=x"], ["data.folder"]), job_folder(["a=1"], ["a"])
    ('method=kd,seed=1', 'job')
    >>> job_folder(["teacher.checkpoint=/a/b.pth"], [])
    'teacher.checkpoint=b.pth-15fe0c96'
    """
    return _name([override for override in overrides if _key(override) not in left_out]) or "job"


def _key(override: str) -> str:
    return override.partition("=")[0]


def _name(overrides: Sequence[str]) -> str:
    whole = ",".join(sorted(overrides))
    name = ",".join(re.sub(r"[^=]*/", "", override) for override in sorted(overrides))
    name = re.sub(r"[^\w.,=+~@-]", "_", name)
    if name == whole and len(name) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(whole.encode()).hexdigest()[:8]
    return f"{name[: _LONGEST_NAME - len(digest) - 1]}-{digest}"


def register() -> None:
    """Make them known to OmegaConf."""
    for resolver in (epochs, validation_period, learning_rate, precision, bfloat16, run_folder, job_folder):
        OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)
