"""What is said once: that the mixes cannot help, and which settings do nothing or far more than was meant."""

from typing import Any

from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor

from supermix_pl.engine import Engine
from supermix_pl.mixing import MixedBatch, Mixer, SuperMix

_FIRST, _LAST = 200, 400  # batches of a fit over which the share of good mixes is averaged
_TOO_FEW = 0.2
_BATCHES_TO_JUDGE = 8
_MUCH = 5  # training steps


class Advice:
    """Warns of mixes that cannot help, and of settings that do nothing, once each."""

    def __init__(self, mixer: Mixer, engine: Engine, start_epoch: int) -> None:
        self._mixer, self._engine, self._start_epoch = mixer, engine, start_epoch
        self._batches, self._batches_judged = 0, 0
        self._good: Tensor | float = 0.0
        self._settings_judged = False

    def judge_mixes(self, mix: MixedBatch) -> None:
        """Warn where too few mixes show the teacher their classes."""
        if not isinstance(self._mixer, SuperMix) or mix.teacher_logits is None:
            return
        self._batches += 1
        if _FIRST < self._batches <= _LAST:
            self._good = self._good + (mix.solved if mix.holds is None else mix.holds).float().mean()
        if self._batches == _LAST and (share := float(self._good) / (_LAST - _FIRST)) < _TOO_FEW:
            rank_zero_warn(
                f"Only {share:.0%} of the mixes show the teacher the classes of their sources as its top "
                "classes, too few to help a student. Likely the teacher does not know these images (classes, "
                "normalisation, size), or max_steps is too small for k. A moving average that has learnt too little "
                "undoes what its student knows: stop, and start it later. This is said once."
            )
        if not self._engine.solves_now or self._batches_judged >= _BATCHES_TO_JUDGE:
            return
        self._batches_judged += 1
        if bool(mix.solved.any()):
            return
        self._batches_judged = _BATCHES_TO_JUDGE
        treated = f'on_unsolved="{self._mixer.on_unsolved}" says' if self._mixer.early_stop else "they are"
        rank_zero_warn(
            f"None of the {len(mix)} sets of a batch was solved within max_steps={self._mixer.max_steps}: the mixes "
            f"are treated as {treated}. Likely the teacher does not know these images (classes, normalisation, size), "
            "or max_steps is too small for k. This is said once."
        )

    def judge_settings(self, trainer: Any) -> None:
        """Warn of settings that will do nothing, or much more than was meant."""
        if self._settings_judged:
            return
        self._settings_judged = True
        last = trainer.max_epochs
        if last is not None and 0 <= last <= self._start_epoch:
            rank_zero_warn(
                f"start_epoch={self._start_epoch} is not below max_epochs={last}: the teacher will supervise no epoch. "
                "Epochs are counted from 0."
            )
        if self._mixer.k == 1:
            rank_zero_warn("k=1: every set has one source, so nothing is mixed; k=2 mixes pairs.")
        budget = self._engine.budget
        if budget is not None and budget >= _MUCH:
            rank_zero_warn(
                f"budget={budget:g}: solving may take {budget:g} times as long as the training step, as it is a share "
                f"of it; {budget / 100:g} would be {budget:g} %."
            )
