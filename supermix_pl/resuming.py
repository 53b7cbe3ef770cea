"""What Lightning gets wrong when a run resumes, set right."""

from typing import Any


def count_next_epoch(fit_loop: Any) -> None:
    """Let a run that resumes behind the last batch of an epoch count the epoch that it starts.

    From a checkpoint that was written in `on_train_batch_end` of that batch, Lightning 2.6 goes on with the next epoch
    as if it stood in its middle: the epoch is not counted as begun, and `on_train_epoch_start` is not called.
    Checkpoints from within it then tell a wrong place, and a run that resumes from one of those repeats or loses
    batches.

    Args:
        fit_loop: Of the trainer, in `on_train_start`.
    """
    epoch_loop = fit_loop.epoch_loop
    if (
        epoch_loop.restarted_on_train_batch_end
        and fit_loop.restarted_mid_epoch
        and epoch_loop.batch_progress.is_last_batch
    ):
        fit_loop.reset_restart_stage()
