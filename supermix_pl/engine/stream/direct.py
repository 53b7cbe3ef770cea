"""The stream of a mixer that solves nothing: fresh sources and weights in every step."""

from dataclasses import replace

import torch

from supermix_pl.engine.stream.images import check_room, image_bytes
from supermix_pl.engine.stream.settings import Settings
from supermix_pl.engine.stream.state import StreamState
from supermix_pl.engine.stream.step import REPLAYS, Step
from supermix_pl.mixing import Chosen, DirectMixer, MixedBatch
from supermix_pl.mixing.blind import judge
from supermix_pl.mixing.checks import fit_k
from supermix_pl.mixing.presenting import label
from supermix_pl.mixing.sampling import draw_keys
from supermix_pl.teacher.frozen import FrozenTeacher
from supermix_pl.teacher.passes import show

_MOST_CANDIDATES = 512  # images that the sets of one step are drawn from


@torch.no_grad()
def mix_stored(
    state: StreamState, settings: Settings, mixer: DirectMixer, teacher: FrozenTeacher | None, step: Step
) -> MixedBatch:
    """Mix images of the store; the batch comes to the store behind."""
    natural, classes = mixer.classes_of(teacher, step.pixels, step.labels, step.logits)
    state.forwards += natural.forwards
    if state.images is None:
        bytes_each, given = image_bytes(step.pixels), settings.sources
        if given is not None:
            check_room(len(given), bytes_each, settings.store_bytes)  # again: the batches may be of a larger dtype
        capacity = max(1, settings.store_bytes // bytes_each) if given is None else len(given)
        state.sizes = [*step.pixels.shape[1:], step.pixels.element_size(), capacity, natural.num_classes]
        state.open(capacity, step.pixels.device, state.sizes)
    store, first = state.stored(), state.is_empty
    if first:
        state.fill(mixer, teacher, step, settings.sources, natural.logits)
    stored = len(store.ring)
    candidates = step.rng.choice(stored, size=min(stored, _MOST_CANDIDATES), replace=False)
    places = store.choose_sets(candidates, step.count, fit_k(mixer.k, stored), mixer.pairing, step.rng)
    state.note_sources(places)
    of_sources = store.classes(places)
    own = torch.arange(places.numel(), device=places.device).view_as(places)
    chosen = Chosen(step.rng, store.at(places).flatten(0, 1), of_sources.flatten(), own, teacher)
    mix = mixer.mix(chosen, natural.num_classes)
    keys = torch.from_numpy(draw_keys(step.rng, step.count))
    shown = step.viewer(step.view, REPLAYS)(mix.images, keys, torch.zeros_like(keys))
    if not first and settings.sources is None:
        state.keep(step.pixels, classes, step.labels)
    state.metrics = {"stored": float(len(store.ring)), "store_bytes": float(store.ring.num_bytes)}
    unknown = torch.full_like(places, -1)
    mix = replace(mix, images=shown, source_indices=unknown, natural_logits=natural.logits)
    if teacher is None:
        return mix
    outputs = show(teacher, mix.images, mixer.chunk_size)
    return judge(label(mix, *outputs, viewed=step.view is not None, forwards=len(mix)))
