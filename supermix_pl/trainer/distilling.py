"""Hinton's loss beside the loss of any module, whose logits are caught on their way."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from supermix_pl.arguments import check_positive, check_probability
from supermix_pl.losses import distillation_loss
from supermix_pl.teacher.outputs import check_part, unwrapped
from supermix_pl.trainer.wrapping import Wrapped

_METHOD = "training_step"


@dataclass(frozen=True, kw_only=True)
class DistillationSettings:
    """The arguments are those of `SuperMixCallback`; so are the errors."""

    weight: float = 0.0
    temperature: float = 4.0
    part: str | None = None

    def __post_init__(self) -> None:
        check_probability("distillation_weight", self.weight)
        check_positive("distillation_temperature", self.temperature)
        unused = {"distillation_temperature": self.temperature != 4, "logits_of": self.part is not None}
        for name, given in unused.items():
            if given and not self.weight:
                value = self.part if name == "logits_of" else self.temperature
                raise ValueError(
                    f"expected distillation_weight > 0 with {name}={value!r}, which does nothing without it, got "
                    f"{self.weight:g}; give a weight, such as 0.9, or leave {name} out"
                )


class Distillation(Wrapped):
    """Blends the loss that `training_step` returns with the distillation loss over all rows of the batch.

    `training_step` is wrapped on the strategy, and `remove` leaves it as it was. Hooks catch the logits; they stand on
    the module during a step only, so that a copy of it has none. `teacher_logits` returns the teacher's logits
    (rows, n) of the training batch; None leaves the module's loss.
    """

    def __init__(
        self,
        trainer: Any,
        module: Any,
        teacher_logits: Callable[[], Float[Tensor, "rows n"] | None],
        settings: DistillationSettings,
        *,
        log: bool,
    ) -> None:
        self._weight, self._temperature, self._part = settings.weight, settings.temperature, settings.part
        self._checked = False
        step = getattr(trainer.strategy, _METHOD)

        def distilled_step(*args: Any, **kwargs: Any) -> Any:
            taught = teacher_logits()
            if taught is None:
                return step(*args, **kwargs)
            with Catcher(self._parts(module), taught) as caught:
                result = step(*args, **kwargs)
            if result is None:
                return None
            distilled = self._loss(caught, taught)
            if log and not trainer.barebones:
                module.log("supermix/distillation_loss", distilled.detach(), batch_size=len(taught))
            return self._blend(result, distilled)

        super().__init__(trainer.strategy, **{_METHOD: distilled_step})

    def check(self, module: Any) -> None:
        """Refuse a module that optimizes by itself, or that has no such part."""
        if not module.automatic_optimization:
            raise ValueError(
                f"expected automatic optimization for distillation_weight={self._weight:g}, got a module with "
                "automatic_optimization=False, whose losses the callback does not see; choose label_natural=True, and "
                "add distillation_loss(logits, callback.teacher_logits) of supermix_pl.losses in training_step"
            )
        if self._part is not None:
            check_part("logits_of", module, self._part)

    def _parts(self, module: nn.Module) -> list[nn.Module]:
        return [module, *_called_parts(module)] if self._part is None else [module.get_submodule(self._part)]

    def _loss(self, caught: "Catcher", taught: Float[Tensor, "rows n"]) -> Float[Tensor, ""]:
        """Return the distillation loss; its mean where a part has run several times."""
        if len({id(part) for part, _ in caught.logits}) != 1:
            where = "the module or of one of its parts" if self._part is None else f"logits_of={self._part!r}"
            raise ValueError(
                f"expected one output of {where} to be the logits of all {taught.shape[0]} rows for "
                f"{taught.shape[1]} classes, for distillation_weight={self._weight:g}, got {len(caught.logits)} among "
                f"outputs of shape {', '.join(map(str, caught.shapes)) or 'none'}; name the part that gives the "
                'logits, as in logits_of="network", or leave distillation to training_step: label_natural=True gives '
                "it callback.teacher_logits"
            )
        if not self._checked:
            self._checked = True
            _refuse_probabilities(caught.logits[0][1].detach())
        losses = [distillation_loss(logits, taught, temperature=self._temperature) for _, logits in caught.logits]
        return torch.stack(losses).mean()

    def _blend(self, result: Any, distilled: Float[Tensor, ""]) -> Any:
        if isinstance(result, Mapping):
            return {**result, "loss": self._blend(result["loss"], distilled)} if "loss" in result else result
        return (1 - self._weight) * result + self._weight * distilled


class Catcher:
    """Catches outputs of parts that are shaped like logits, while it is open, and notes the shapes of all.

    Of parts that call one another, the outermost outputs count.
    """

    def __init__(self, parts: list[nn.Module], like: Float[Tensor, "rows n"]) -> None:
        self._parts, self._shape = parts, like.shape
        self._open: list[list[tuple[nn.Module, Tensor]]] = [[]]
        self.shapes: list[tuple[int, ...]] = []

    @property
    def logits(self) -> list[tuple[nn.Module, Float[Tensor, "rows n"]]]:
        """What was caught, each with its part."""
        return self._open[0]

    def __enter__(self) -> "Catcher":
        self._hooks = [part.register_forward_pre_hook(self._enter) for part in self._parts]
        self._hooks += [part.register_forward_hook(self._leave) for part in self._parts]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _enter(self, part: nn.Module, given: Any) -> None:
        self._open.append([])

    def _leave(self, part: nn.Module, given: Any, output: Any) -> None:
        within = self._open.pop()
        output = unwrapped(output)
        if isinstance(output, Tensor):
            self.shapes.append(tuple(output.shape))
            if output.shape == self._shape and output.requires_grad:
                within = [(part, output)]
        self._open[-1].extend(within)


def _refuse_probabilities(logits: Float[Tensor, "rows n"]) -> None:
    if bool((logits >= 0).all()) and bool((logits.float().sum(dim=1) - 1).abs().max() < 1e-2):
        raise ValueError(
            "expected logits from the module for distillation_weight, got probabilities: rows of numbers >= 0 that sum "
            "to 1; name the part before the softmax by logits_of"
        )


def _called_parts(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the direct parts of a module; of a container that is never called, such as a ModuleDict, its parts."""
    for part in module.children():
        if isinstance(part, nn.ModuleList | nn.ModuleDict):
            yield from _called_parts(part)
        elif not isinstance(part, torch.jit.ScriptModule):  # which takes no hooks
            yield part
