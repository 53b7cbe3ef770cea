"""When a stream begins anew in a run: a budget chose its uses, or batches have another size than in the checkpoint."""

from pytorch_lightning.utilities import rank_zero_info

from supermix_pl.engine.base import Run
from supermix_pl.engine.stream.plan import reuse_for_budget
from supermix_pl.engine.stream.settings import Settings
from supermix_pl.engine.stream.solving import expected_rounds
from supermix_pl.engine.stream.state import StreamState
from supermix_pl.mixing import SuperMix

_STEPS_TO_TIME = 10


def replanned(state: StreamState, settings: Settings, run: Run, mixer: SuperMix, count: int) -> StreamState:
    """Return the state for a step of `count` mixes: a new one where the stream must be planned anew."""
    return _with_batch_size(_within_budget(state, settings, run, mixer), count)


def _within_budget(state: StreamState, settings: Settings, run: Run, mixer: SuperMix) -> StreamState:
    """Find, once, the uses of a set that a budget allows on rank 0, and begin anew with them."""
    budget, solving = settings.budget, state.solving
    if budget is None or solving is None or state.reuse is not None or state.step % _STEPS_TO_TIME:
        return state
    reuse = None
    training, per_visit = run.training_seconds(), solving.visit_times.per_row()
    if training is not None and per_visit is not None:
        rounds = expected_rounds(mixer)
        reuse = reuse_for_budget(
            budget,
            state.batch_size,
            rounds,
            settings.first_shown(rounds),
            training=training,
            per_visit=per_visit,
            per_label=solving.label_times.per_row() or per_visit / 2,
        )
    reuse = run.broadcast(reuse)
    return state if reuse is None else StreamState(step=state.step, batch_size=state.batch_size, reuse=reuse)


def _with_batch_size(state: StreamState, count: int) -> StreamState:
    """Begin anew where the first two batches of a resumed run have another size: one may be the last of an epoch."""
    if state.batch_sizes is None:
        return state
    state.batch_sizes.append(count)
    if len(state.batch_sizes) < 2:
        return state
    first, state.batch_sizes = state.batch_sizes[0], None
    if not first == count != state.batch_size:
        return state
    rank_zero_info(
        f"Stream engine: batches have {count} mixes, {state.batch_size} in the checkpoint, so it begins anew."
    )
    return StreamState(step=state.step, batch_size=count, reuse=state.reuse)
