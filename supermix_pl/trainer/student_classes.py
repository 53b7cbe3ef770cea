"""How many classes the trained module has, for errors of torch that do not say so."""

from types import TracebackType

from torch import Tensor, nn

_LOSSES = ("cross_entropy", "nll_loss", "multi_margin_loss")
_OUT_OF_RANGE = ("device-side assert", "out of bounds", "out of range", "smaller than num_classes")


def class_note(error: BaseException, module: nn.Module, num_classes: int) -> str | None:
    """Return a note for an error that may have come because the classes of teacher and trained module differ."""
    out_of_range = any(text in str(error) for text in _OUT_OF_RANGE)
    given = _logits_in(error.__traceback__)
    where = "the trained module gives {} logits"
    if given is None and out_of_range:  # a loss of the user's own, or one that failed later, on a device
        given, where = _last_layer(module), "the last linear layer of the trained module gives {} values"
    if given is None or given == num_classes or (out_of_range and given > num_classes):
        return None
    return (
        f"SuperMixCallback: mixes are labelled with the {num_classes} classes of the teacher, and "
        f"{where.format(given)}. Give both the same classes, in the same order; of a teacher that knows more, "
        "FrozenTeacher(class_indices=...) picks them."
    )


def _logits_in(traceback: TracebackType | None) -> int | None:
    """Find what a loss of torch was given, in the frames of a traceback."""
    found = None
    while traceback is not None:
        frame, traceback = traceback.tb_frame, traceback.tb_next
        logits = frame.f_locals.get("input")
        if frame.f_code.co_name in _LOSSES and isinstance(logits, Tensor) and logits.ndim > 1:
            found = logits.shape[1]
    return found


def _last_layer(module: nn.Module) -> int | None:
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    return layers[-1].out_features if layers else None
