"""The mixers that figures and benchmarks set side by side, for sets of different classes of the same images."""

from dataclasses import replace
from typing import Any

from supermix_pl import CutMix, FMix, MixUp, PuzzleMix, ResizeMix, SaliencyMix, SuperMix
from supermix_pl.mixing import DirectMixer

PAPER, EXACT, FAST, MIXUP, CUTMIX = "SuperMix", "exact", "SuperMix.fast", "MixUp", "CutMix"
BLIND = (MIXUP, CUTMIX)
PAIRS = ("FMix", "ResizeMix", "SaliencyMix", "PuzzleMix")
MEANING = (
    "SuperMix: the paper's solver; exact: quicker, likewise on exact pixels until the first test is passed; "
    "SuperMix.fast: the recommendation, solved under random views."
)
_EXACT: dict[str, Any] = {
    "init": "contrast",
    "objective": "criterion",
    "lambda_s": 0.0,
    "max_logit_step": 3.0,
    "momentum": 0.5,
    "min_steps": 0,
    "sigma": 0.5,
}


def named_mixers(paper: SuperMix) -> dict[str, SuperMix | DirectMixer]:
    """Return the mixers by name, those of pairs for k = 2.

    Raises:
        ValueError: If it is another solver, which would stand under the paper's name.
    """
    if paper.objective != "paper" or paper.views is not None:
        raise ValueError(
            f"expected mixer=supermix, the paper's solver, to be set beside the others, got {as_call(paper)}; "
            "SuperMix.fast is among them anyway"
        )
    paper = replace(paper, pairing="distinct")
    sets: dict[str, Any] = {"alpha": paper.alpha, "pairing": "distinct"}
    pairs = (FMix(**sets), ResizeMix(pairing="distinct"), SaliencyMix(**sets), PuzzleMix(**sets))
    found: dict[str, SuperMix | DirectMixer] = {
        PAPER: paper,
        EXACT: replace(paper, **_EXACT),
        FAST: fast(paper),
        MIXUP: MixUp(k=paper.k, **sets),
        CUTMIX: CutMix(k=paper.k, **sets),
    }
    return found | dict(zip(PAIRS, pairs, strict=True)) if paper.k == 2 else found


def fast(paper: SuperMix, **changes: Any) -> SuperMix:
    """Return SuperMix.fast for the sets of another solver, with changes."""
    shared = {"k": paper.k, "alpha": paper.alpha, "classes": paper.classes, "chunk_size": paper.chunk_size}
    return SuperMix.fast(**shared | changes)


def as_call(mixer: object) -> str:
    """Write a mixer as the call that makes it, without its defaults."""
    if not isinstance(mixer, SuperMix):
        return repr(mixer)
    default = SuperMix()
    changed = [f"{name}={value!r}" for name, value in vars(mixer).items() if value != getattr(default, name)]
    return f"SuperMix({', '.join(changed)})"
