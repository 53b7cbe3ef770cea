"""Loading a teacher's weights from files that run no code."""

import pickle
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

Network = TypeVar("Network", bound=nn.Module)

_WRAPPED_UNDER = ("model", "state_dict", "net", "model_state_dict")
_WRAPPERS = {  # what DataParallel, DDP, AveragedModel, torch.compile, Fabric, FSDP and checkpointing put into names
    "module",
    "_orig_mod",
    "_forward_module",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
}
_NAMES_SHOWN = 3


def load_checkpoint(module: Network, path: str | Path, *, prefix: str = "") -> Network:
    """Load all weights of a module from a file that runs no code, and return the module.

    Reads safetensors files and plain state dicts. Also dicts that hold the state dict under "model", "state_dict",
    "net" or "model_state_dict", such as Lightning's checkpoints and published distillation teachers (`{"epoch",
    "best_acc", "model"}`). Pickles that would run code are refused; `convert_checkpoint` is for those.

    Whatever the module's own `load_state_dict` takes strictly is taken, names that it upgrades among it. What wrappers
    put into names, wherever in them, makes no difference: "module." (DDP, AveragedModel), "_orig_mod." (compiled),
    "_forward_module." (Fabric), "_fsdp_wrapped_module." and "_checkpoint_wrapped_module.".

    Args:
        module: The network that the weights belong to. If they are refused it stays as it was.
        path: The file.
        prefix: Common start of the wanted names, with or without its dot, such as "student." in a Lightning checkpoint;
            other entries are left out.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, would run code, or holds the weights of another network.
    """
    path = Path(path)
    held = _state_dict(_read(path), path)
    if not prefix and _loads(module, held) is None:
        return module
    weights = _renamed(held, module, prefix, path)
    error = _loads(module, weights)
    if error is not None:
        raise ValueError(_difference(module.state_dict(), weights, path, error)) from error
    return module


def _loads(module: nn.Module, weights: Mapping[str, Tensor]) -> RuntimeError | None:
    """Load weights strictly, or leave the module as it was and give torch's error."""
    own = module.state_dict()
    before = {name: value.clone() for name, value in own.items() if isinstance(value, Tensor) and not is_lazy(value)}
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        with torch.no_grad():
            for name, value in before.items():
                module.state_dict()[name].copy_(value)
        return error
    return None


def convert_checkpoint(path: str | Path, new_path: str | Path) -> None:
    """Write the weights of a file that you trust as a file that `load_checkpoint` reads. Code in the file is run.

    Takes what `load_checkpoint` takes, pickles of other things beside the weights (settings, paths), weights as arrays
    of NumPy, also of `pickle.dump`, and modules saved whole, whose classes must be there to be imported.

    Args:
        path: Of the trusted file.
        new_path: Of the file that is written.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If there are no weights in it, or it is damaged.
    """
    path = Path(path)
    _check_is_file(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=False)
    except (RuntimeError, pickle.UnpicklingError):  # no file of torch.save
        try:
            with path.open("rb") as file:
                content = pickle.load(file)
        except Exception as error:  # of any code
            raise ValueError(_damaged(path)) from error
    torch.save({"model": _state_dict(content, path)}, new_path)


def _renamed(held: Mapping[str, Tensor], module: nn.Module, prefix: str, path: Path) -> "OrderedDict[str, Tensor]":
    """Rename the entries under a prefix as the module has them, whatever wraps either."""
    start = _bare(prefix)
    start = f"{start}." if start else ""
    bare = {name: _bare(name) for name in held}
    own = module.state_dict()
    found = {name: bare[name].removeprefix(start) for name in held if bare[name].startswith(start)}
    if not found:
        raise ValueError(f"expected weights whose names start with {prefix!r} in {path}, got none")
    if "n_averaged" in found and "n_averaged" not in own:  # the counter of an AveragedModel
        del found["n_averaged"]
    if len(set(found.values())) < len(found):  # the wrappers' words tell names apart
        found = {name: name.removeprefix(f"{prefix.removesuffix('.')}.") for name in found}
    names = _by_bare_name(own)
    weights = OrderedDict((names.get(new, new), held[name]) for name, new in found.items())
    parts = _by_bare_name(name for name, _ in module.named_modules())
    metadata: Mapping[str, Any] = getattr(held, "_metadata", {})
    under = {_bare(name): value for name, value in metadata.items() if f"{_bare(name)}.".startswith(start)}
    versions = {name.removeprefix(start.removesuffix(".")).removeprefix("."): value for name, value in under.items()}
    vars(weights)["_metadata"] = {parts.get(name, name): value for name, value in versions.items()}
    return weights


def _bare(name: str) -> str:
    return ".".join(part for part in name.split(".") if part and part not in _WRAPPERS)


def _by_bare_name(names: Iterable[str]) -> dict[str, str]:
    """Find names by what they are without wrappers, where that is theirs alone."""
    names = list(names)
    count = Counter(map(_bare, names))
    return {_bare(name): name for name in names if count[_bare(name)] == 1}


def _read(path: Path) -> Any:
    _check_is_file(path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a reader of garbage stumbles over may be of any kind
        if (loader := _program_loader(path)) is not None:
            raise ValueError(
                f"expected weights in {path}, got a whole program, which needs no network to load them into; give "
                f"FrozenTeacher({loader}) as teacher"
            ) from error
        if isinstance(error, pickle.UnpicklingError) and _is_pickle(path):
            raise ValueError(
                f"{path} is a pickle that would run code when it is read, so it is refused. If you trust where it "
                "comes from, convert it once: supermix_pl.checkpoint.convert_checkpoint(path, new_path), which runs "
                "that code, and give new_path; or write the state dict with safetensors.torch.save_file"
            ) from error
        raise ValueError(_damaged(path)) from error


def _check_is_file(path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"expected a checkpoint at {path}, found no such file")


def _program_loader(path: Path) -> str | None:
    """Return how a file of TorchScript or torch.export is opened; None for other files."""
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        held = {name.partition("/")[2] for name in archive.namelist()}
    if "constants.pkl" in held:
        return f"torch.jit.load({str(path)!r})"
    return f"torch.export.load({str(path)!r}).module()" if "models/model.json" in held else None


def _is_pickle(path: Path) -> bool:
    """Return whether a file is of torch.save or pickle.dump; text and noise give the same error of the unpickler."""
    with path.open("rb") as file:
        return file.read(2).startswith((b"PK", b"\x80"))


def _damaged(path: Path) -> str:
    return (
        f"expected a checkpoint of torch.save or a .safetensors file, got {path}, which is damaged or of another kind "
        f"({path.stat().st_size} bytes); fetch or write it again"
    )


def _state_dict(content: Any, path: Path) -> Mapping[str, Tensor]:
    for name in _WRAPPED_UNDER:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping | nn.Module):
            return _state_dict(content[name], path)
    if isinstance(content, nn.Module):
        content = content.state_dict()
    if isinstance(content, Mapping) and any(isinstance(value, np.ndarray) for value in content.values()):
        content = {
            n: torch.as_tensor(value) if isinstance(value, np.ndarray) else value for n, value in content.items()
        }
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        held = list(content)[:8] if isinstance(content, Mapping) else type(content).__name__
        raise ValueError(f"expected a state dict, or one under {', '.join(_WRAPPED_UNDER)}, in {path}, got {held}")
    return content


def _difference(expected: Mapping[str, Tensor], got: Mapping[str, Tensor], path: Path, error: RuntimeError) -> str:
    """Name the first entries that differ; torch's own message lists hundreds."""
    missing = [name for name in expected if name not in got]
    surplus = [name for name in got if name not in expected]
    shapes = [
        f"{name}: expected {tuple(expected[name].shape)}, got {tuple(got[name].shape)}"
        for name in expected
        if name in got and not is_lazy(expected[name]) and got[name].shape != expected[name].shape
    ]
    found = (("missing", missing), ("unexpected", surplus), ("of another shape", shapes))
    parts = [f"{len(names)} {what} ({_first(names)})" for what, names in found if names]
    return (
        f"expected the weights of this network in {path}, got those of another one: {', '.join(parts) or error}; "
        "look at the network's name and number of classes, and at prefix="
    )


def _first(names: list[str]) -> str:
    more = len(names) - _NAMES_SHOWN
    return "; ".join(names[:_NAMES_SHOWN]) + (f"; and {more} more" if more > 0 else "")
