"""The solvers of the front: the paper's, quicker variants, SuperMix.fast, and that without each of its departures."""

from dataclasses import replace

from supermix_pl import SuperMix

PAPER, FAST = "paper", "fast"
_OPTIONS = ("bounded", "margin", "combined")
_WITHOUT = ("fast, zeros", "fast, Eq. 3", "fast, no momentum", "fast, paper's sigma")
NAMES = (PAPER, *_OPTIONS, FAST, *_WITHOUT)


def solvers(base: SuperMix) -> dict[str, SuperMix]:
    """Make them all for a data set.

    Args:
        base: The paper's solver with the settings for the data set.
    """
    fast = SuperMix.fast(
        k=base.k,
        alpha=base.alpha,
        mask_size=base.mask_size,
        max_steps=base.max_steps,
        pairing=base.pairing,
        classes=base.classes,
    )
    return {
        PAPER: base,
        "bounded": replace(base, max_logit_step=2.0),
        "margin": replace(base, objective="margin", max_logit_step=2.0),
        "combined": replace(base, init="saliency", objective="margin", max_logit_step=2.0),
        FAST: fast,
        "fast, zeros": replace(fast, init="zeros", min_steps=1),
        "fast, Eq. 3": replace(fast, objective="paper"),
        "fast, no momentum": replace(fast, momentum=0.0),
        "fast, paper's sigma": replace(fast, sigma=base.sigma),
    }
