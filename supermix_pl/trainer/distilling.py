"""Hinton's loss beside the loss of any module, whose logits are caught on their way."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.modules.loss import _Loss

from supermix_pl.arguments import check_positive, check_probability
from supermix_pl.losses import distillation_loss
from supermix_pl.teacher.outputs import are_probabilities, check_part, unwrapped
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
    (rows, n) of the training batch; None leaves the module's loss. `images_of` returns the images of a batch.
    """

    def __init__(
        self,
        trainer: Any,
        module: Any,
        teacher_logits: Callable[[], Float[Tensor, "rows n"] | None],
        images_of: Callable[[Any], Tensor],
        settings: DistillationSettings,
        *,
        log: bool,
    ) -> None:
        self._weight, self._temperature, self._part = settings.weight, settings.temperature, settings.part
        self._checked = False
        step = getattr(trainer.strategy, _METHOD)

        def distilled_step(batch: Any, *args: Any, **kwargs: Any) -> Any:
            taught = teacher_logits()
            if taught is None:
                return step(batch, *args, **kwargs)
            if not self._checked:  # trial runs of Lightning's finders start without us
                self.check(module)
            with Catcher(self._parts(module), taught, images_of(batch)) as caught:
                result = step(batch, *args, **kwargs)
            own = result.get("loss") if isinstance(result, Mapping) else result
            if own is None:  # Lightning skips the batch, or says what is missing
                return result
            seen = taught.isfinite().all(dim=1)
            self._check_found(module, caught, taught, own)
            distilled = self._loss(caught, taught, seen)
            if log and not trainer.barebones:
                module.log("supermix/distillation_loss", distilled.detach(), batch_size=len(taught))
            blended = torch.where(seen.any(), (1 - self._weight) * own + self._weight * distilled, own)
            return {**result, "loss": blended} if isinstance(result, Mapping) else blended

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

    def _check_found(self, module: nn.Module, caught: "Catcher", taught: Float[Tensor, "rows n"], own: Any) -> None:
        """Refuse a step whose logits cannot be told; in the first also an auxiliary head, and probabilities."""
        heads: list[str] = []
        if not self._checked and self._part is None:
            heads = list(_hidden_heads(module, caught.called, own, taught.shape[1]))
        found = {part for part, _, _ in caught.logits}
        if len(found) != 1 or (heads and module not in found):
            where = "the module or of one of its parts" if self._part is None else f"logits_of={self._part!r}"
            other = "" if found else " for fewer classes than the teacher's give FrozenTeacher(class_indices=...);"
            within = f", and layers within parts that are not called themselves: {', '.join(heads)}" if heads else ""
            raise ValueError(
                f"expected one output of {where} to be the logits of all {taught.shape[0]} rows for "
                f"{taught.shape[1]} classes, for distillation_weight={self._weight:g}, got {len(caught.logits)} among "
                f"outputs of shape {', '.join(map(str, caught.shapes)) or 'none'}{within};{other} name the part that "
                f'gives the logits, as in logits_of="{heads[-1] if heads else "network"}", or leave distillation to '
                "training_step: label_natural=True gives it callback.teacher_logits"
            )
        if not self._checked:
            _refuse_probabilities(caught.logits[0][1])
        self._checked = True

    def _loss(
        self, caught: "Catcher", taught: Float[Tensor, "rows n"], seen: Bool[Tensor, " rows"]
    ) -> Float[Tensor, ""]:
        """Return the distillation loss, averaged over the rows that the teacher has `seen`: its logits are finite.

        Of a part that has run several times it is the mean: of the runs on the images of the batch, or else of all.
        """
        runs = [logits for _, logits, of_batch in caught.logits if of_batch]
        runs = runs or [logits for _, logits, _ in caught.logits]
        rows, taught = seen[:, None], taught.where(seen[:, None], 0)
        losses = [distillation_loss(logits.where(rows, 0), taught, temperature=self._temperature) for logits in runs]
        return torch.stack(losses).mean() * (len(seen) / seen.sum().clamp(min=1))


Caught = tuple[nn.Module, Float[Tensor, "rows n"], bool]
"""A part, its logits, and whether it, or what it was called within, was given the images of the batch."""


class Catcher:
    """Catches outputs of parts that are shaped like logits, while it is open, and notes what ran and gave what shape.

    Of parts that call one another, the outermost outputs count. Compilers trace the hooks, so these are plain: hooks
    that take keywords, or that are called after exceptions, would be compiled anew in every step.
    """

    def __init__(self, parts: list[nn.Module], like: Float[Tensor, "rows n"], images: Tensor) -> None:
        self._parts, self._shape, self._images = parts, like.shape, images
        self._open: list[list[Caught]] = [[]]
        self._given_batch = [False]
        self.shapes: list[tuple[int, ...]] = []
        self.called: list[nn.Module] = []

    @property
    def logits(self) -> list[Caught]:
        """What was caught; calls that ended by an exception, which the module has treated, are open still."""
        return [each for within in self._open for each in within]

    def __enter__(self) -> "Catcher":
        self._hooks = [part.register_forward_pre_hook(self._enter) for part in self._parts]
        self._hooks += [part.register_forward_hook(self._leave) for part in self._parts]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _enter(self, part: nn.Module, given: Any) -> None:
        self.called.append(part)
        self._open.append([])
        given_batch = self._given_batch[-1]
        for value in given:
            given_batch = given_batch or value is self._images
        self._given_batch.append(given_batch)

    def _leave(self, part: nn.Module, given: Any, output: Any) -> None:
        within, of_batch = self._open.pop(), self._given_batch.pop()
        output = unwrapped(output)
        if isinstance(output, Tensor):
            self.shapes.append(tuple(output.shape))
            if output.shape == self._shape and output.requires_grad:
                within = [(part, output, of_batch)]
        self._open[-1].extend(within)


def _hidden_heads(module: nn.Module, called: list[nn.Module], loss: Any, classes: int) -> Iterator[str]:
    """Yield the names of layers for so many classes that the loss needs, in parts whose methods alone are called."""
    caught = {layer for part in called if part is not module for layer in part.modules()}
    weights, names = _weights_of(loss), {part: name for name, part in module.named_modules()}
    for part in _called_parts(module):
        for layer in part.modules():
            head = getattr(layer, "out_features", None) == classes and id(getattr(layer, "weight", None)) in weights
            if head and layer not in caught:
                yield names[layer]


def _weights_of(loss: Any) -> set[int]:
    """Return the ids of the tensors that a loss has a gradient with respect to."""
    nodes, seen = [getattr(loss, "grad_fn", None)], set()
    while nodes:
        node = nodes.pop()
        if node is not None and node not in seen:
            seen.add(node)
            nodes.extend(each for each, _ in node.next_functions)
    return {id(node.variable) for node in seen if hasattr(node, "variable")}


def _refuse_probabilities(logits: Float[Tensor, "rows n"]) -> None:
    softmax = are_probabilities(logits)
    if softmax or type(logits.grad_fn).__name__.startswith("SigmoidBackward"):
        what = "rows of numbers >= 0 that sum to 1" if softmax else "outputs of a sigmoid"
        raise ValueError(
            f"expected logits from the module for distillation_weight, got probabilities: {what}; name the part before "
            f"the {'softmax' if softmax else 'sigmoid'} by logits_of"
        )


def _called_parts(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the direct parts of a module but torch's losses; of a container that is never called its parts."""
    for part in module.children():
        if isinstance(part, nn.ModuleList | nn.ModuleDict):
            yield from _called_parts(part)
        elif not isinstance(part, torch.jit.ScriptModule | _Loss):  # TorchScript takes no hooks
            yield part
