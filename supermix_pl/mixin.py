"""SuperMixMixin: the callback as part of a LightningModule."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from supermix_pl.callback import SuperMixCallback
from supermix_pl.mixing import MixedBatch
from supermix_pl.mixing.targets import Targets


class SuperMixMixin:
    """Let a LightningModule bring its mixing along.

    Write `configure_supermix`, and name the mixin before the LightningModule:

        class Student(SuperMixMixin, pl.LightningModule):
            def configure_supermix(self):
                return SuperMixCallback(load_my_teacher)

    Raises:
        TypeError: If the mixin is named after the LightningModule; Lightning would never ask it for the callback.
    """

    _supermix_callback: SuperMixCallback | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse a subclass that would lose the callback silently."""
        super().__init_subclass__(**kwargs)
        order = cls.__mro__
        behind = [base for base in order[: order.index(SuperMixMixin)] if base.__name__ == "LightningModule"]
        if behind:
            raise TypeError(
                f"expected class {cls.__name__}(SuperMixMixin, LightningModule), got the mixin behind the "
                "LightningModule, where its callback would be lost; name it first"
            )
        definer = next(base for base in order if "configure_callbacks" in vars(base))
        if definer is cls or not issubclass(definer, SuperMixMixin):
            setattr(cls, "configure_callbacks", _keeping_ours(cls.configure_callbacks))  # noqa: B010

    def configure_supermix(self) -> SuperMixCallback:
        """Return the callback that mixes this module's batches. Called once."""
        raise NotImplementedError(
            f"expected {type(self).__name__} to define configure_supermix(self) and return a SuperMixCallback from it"
        )

    def configure_callbacks(self) -> Sequence[Any]:
        """Return the callback, and those of the other base classes."""
        if self._supermix_callback is None:
            callback = self.configure_supermix()
            if not isinstance(callback, SuperMixCallback):
                raise TypeError(f"expected configure_supermix to return a SuperMixCallback, got {callback!r}")
            self._supermix_callback = callback
        try:
            others = self.trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
        except RuntimeError:  # it has none yet
            others = []
        if any(isinstance(other, SuperMixCallback) and other is not self._supermix_callback for other in others):
            raise ValueError(
                "expected no SuperMixCallback in the trainer beside the module's own, got one; remove it from "
                "Trainer(callbacks=...) or remove SuperMixMixin from the module"
            )
        others = super().configure_callbacks()  # pyright: ignore[reportAttributeAccessIssue]
        return [*(others if isinstance(others, Sequence) else [others]), self._supermix_callback]

    @property
    def mix(self) -> MixedBatch | None:
        """The `MixedBatch` of the current training batch; None if it was not mixed."""
        return None if self._supermix_callback is None else self._supermix_callback.mix

    @property
    def teacher_logits(self) -> Float[Tensor, "rows n"] | None:
        """The teacher's logits, one row for each row of the current training batch; see `SuperMixCallback`."""
        return None if self._supermix_callback is None else self._supermix_callback.teacher_logits

    @property
    def teacher_features(self) -> Float[Tensor, "rows ..."] | None:
        """The output of a part of the teacher, likewise."""
        return None if self._supermix_callback is None else self._supermix_callback.teacher_features

    @property
    def teacher_labels(self) -> Targets | None:
        """The labels of batches that have none, likewise."""
        return None if self._supermix_callback is None else self._supermix_callback.teacher_labels


def _keeping_ours(configure: Callable[[Any], Any]) -> Callable[[Any], Any]:
    @functools.wraps(configure)
    def configure_callbacks(self: Any) -> Any:
        callbacks = configure(self)
        held = callbacks if isinstance(callbacks, Sequence) else [callbacks]
        if not any(isinstance(callback, SuperMixCallback) for callback in held):
            raise TypeError(
                f"expected {type(self).__name__}.configure_callbacks to keep the callback of SuperMixMixin, got "
                "callbacks without it; return [*super().configure_callbacks(), ...]"
            )
        return callbacks

    return configure_callbacks
