"""How a batch is caught on its way from the data loader to `training_step`."""

import inspect
from collections.abc import Callable
from typing import Any

from supermix_pl.trainer.wrapping import Wrapped

_METHOD = "batch_to_device"


class Interception(Wrapped):
    """Hands every training batch of a trainer through a function, after its transfer to the device.

    Lightning lets no callback replace a batch. The last function that each batch of the training loop passes on its way
    is `trainer.strategy.batch_to_device`, after all of the user's transfer hooks.
    """

    def __init__(self, trainer: Any, rewrite: Callable[[Any], Any]) -> None:
        transfer = getattr(trainer.strategy, _METHOD)

        def transfer_and_rewrite(batch: Any, *args: Any, **kwargs: Any) -> Any:
            # The loop names the hook that it is in; code that transfers a batch of its own is in another one
            of_the_loop = trainer.lightning_module._current_fx_name == _METHOD
            batch = transfer(batch, *args, **kwargs)
            return rewrite(batch) if trainer.training and of_the_loop and batch is not None else batch

        super().__init__(trainer.strategy, **{_METHOD: transfer_and_rewrite})


def check_step_takes_batches(module: Any) -> None:
    """Refuse a module whose batches bypass the trainer."""
    if "dataloader_iter" in inspect.signature(module.training_step).parameters:
        raise ValueError(
            "expected training_step(batch, ...), got training_step(dataloader_iter): such a step fetches batches "
            "behind the trainer's back, where they cannot be mixed; take `batch`, or call the mixer in the step"
        )


def has_other_loaders(trainer: Any) -> bool:
    """Return whether batches come from several data loaders, so that the one with the images may run out first."""
    loaders = trainer.fit_loop._combined_loader
    return loaders is not None and len(loaders.flattened) > 1
