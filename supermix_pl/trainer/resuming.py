"""What Lightning gets wrong when a run resumes: set right, or told."""

from typing import Any

from pytorch_lightning.utilities import rank_zero_warn


def count_next_epoch(fit_loop: Any) -> None:
    """Let a run that resumes behind the last batch of an epoch count the epoch that it starts.

    From a checkpoint that was written in `on_train_batch_end` of that batch, Lightning 2.6 goes on with the next epoch
    as if it stood in its middle: the epoch is not counted as begun, and `on_train_epoch_start` is not called.
    Checkpoints from within it then tell a wrong place, and a run that resumes from one of those repeats or loses
    batches. To be called in `on_train_start`.
    """
    loop = fit_loop.epoch_loop
    if loop.restarted_on_train_batch_end and fit_loop.restarted_mid_epoch and loop.batch_progress.is_last_batch:
        fit_loop.reset_restart_stage()


def warn_of_lost_place(fit_loop: Any) -> None:
    """Warn, in `on_train_start`, where a run that resumes within an epoch cannot repeat the uninterrupted one."""
    loaders = [] if fit_loop._combined_loader is None else fit_loop._combined_loader.flattened
    progress = fit_loop.epoch_loop.batch_progress
    # `completed` lags by one in checkpoints that are written in `on_train_batch_end`
    at_end = progress.is_last_batch and progress.current.processed == progress.current.ready
    in_epoch = fit_loop.restarting and progress.current.processed > 0 and not at_end
    if in_epoch and not all(hasattr(loader, "load_state_dict") for loader in loaders):
        rank_zero_warn(
            "Resuming in the middle of an epoch with a data loader that has no state_dict and load_state_dict: "
            "Lightning starts the epoch's data over, so the run will differ from an uninterrupted one. Use a loader "
            "that can resume, or checkpoints from the end of an epoch."
        )


def validation_follows(fit_loop: Any) -> bool:
    """Return, in `on_train_batch_end`, whether the trainer validates before its next training step.

    A run that resumes from a checkpoint of that moment would pass the validation over.
    """
    return fit_loop.epoch_loop._should_check_val_fx(fit_loop._data_fetcher)
