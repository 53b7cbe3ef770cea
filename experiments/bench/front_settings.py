"""The settings of the front: the paper's solver, SuperMix.fast with its neighbours, and mixers that do not look."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from supermix_pl import CutMix, MixUp, SuperMix
from supermix_pl.experiments.bench.calls import arguments_in
from supermix_pl.mixing import BlindMixer

PAPER, BEFORE, FAST, MIXUP, CUTMIX = "paper", "fast before", "fast", "mixup", "cutmix"
BLIND = (MIXUP, CUTMIX)
# What SuperMix.fast was while it was solved on exact pixels, until the first test passed. The momentum was not
# Nesterov's then, and the KL counted whole.
_BEFORE: dict[str, Any] = {
    "init": "contrast",
    "objective": "criterion",
    "lambda_s": 0.0,
    "max_logit_step": 3.0,
    "momentum": 0.5,
    "min_steps": 0,
    "sigma": 0.5,
}
NEIGHBOURS = (
    "views=None",
    "views=None, mask_size=16, sigma=0.5, lambda_s=15.0",
    "mask_size=8, sigma=0.25",
    "mask_size=16, sigma=0.5",
    "mask_size=16, sigma=0.5, lambda_s=15.0",
    "mask_size=32, sigma=1.0",
    "sigma=0.5",
    "sigma=2.0",
    "lambda_s=0.0",
    "lambda_s=5.0",
    "lambda_s=15.0",
    "lambda_s=30.0",
    "max_logit_step=2.0",
    "max_logit_step=5.0",
    "momentum=0.0",
    "momentum=0.8",
    "objective='paper'",
    "objective='margin'",
    "init='contrast'",
)
"""Changes of SuperMix.fast that are measured unless others are asked for."""


def paper_and_before(base: SuperMix) -> dict[str, SuperMix]:
    """Give the solvers that end a set at the first test that it passes.

    Args:
        base: The paper's solver with the settings for the data set.
    """
    return {PAPER: base, BEFORE: replace(base, **_BEFORE)}


def settings(base: SuperMix, tried: Sequence[str], rounds: int) -> dict[str, SuperMix | BlindMixer]:
    """Make all mixers for a data set.

    Args:
        base: The paper's solver with the settings for the data set.
        tried: Changes of SuperMix.fast, as they stand in a call.
        rounds: The most that are run.

    Returns:
        By name; a change that makes no difference is left out.

    Raises:
        ValueError: If changes cannot be read, or SuperMix does not take them.
    """
    made: dict[str, SuperMix | BlindMixer] = {
        name: replace(mixer, max_steps=rounds) for name, mixer in paper_and_before(base).items()
    }
    shared: dict[str, Any] = {"k": base.k, "alpha": base.alpha, "classes": base.classes, "max_steps": rounds}
    made[FAST] = SuperMix.fast(**shared)
    for text in tried:
        changes = arguments_in(text)
        if "max_steps" in changes:
            raise ValueError(f"expected changes of SuperMix.fast but max_steps, which --rounds varies, got {text!r}")
        try:
            mixer = SuperMix.fast(**shared | changes)
        except (TypeError, ValueError) as error:
            raise ValueError(f"expected changes of SuperMix.fast, got {text!r}: {error}") from error
        if mixer not in made.values():
            made[f"{FAST}, {text}"] = mixer
    return made | {
        MIXUP: MixUp(k=base.k, pairing=base.pairing),
        CUTMIX: CutMix(k=base.k, pairing=base.pairing),
    }
