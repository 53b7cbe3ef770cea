"""Loading a teacher's weights from files that run no code."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)

_WRAPPED_UNDER = ("model", "state_dict", "net", "model_state_dict")
_NAMES_SHOWN = 3
_CONVERSION = (
    "held = torch.load(path, weights_only=False); "
    f"held = next((held[name] for name in {_WRAPPED_UNDER} if isinstance(held, dict) and name in held), held); "
    "torch.save(held.state_dict() if hasattr(held, 'state_dict') else held, new_path)"
)


def load_checkpoint(module: Network, path: str | Path, *, prefix: str = "") -> Network:
    """Load all weights of a module from a file that runs no code, and return the module.

    Reads safetensors files and plain state dicts. Also dicts that hold the state dict under "model", "state_dict",
    "net" or "model_state_dict", such as Lightning's checkpoints and published distillation teachers (`{"epoch",
    "best_acc", "model"}`). Pickles that would run code are refused.

    Args:
        module: The network that the weights belong to.
        path: The file.
        prefix: Common start of the wanted names, such as "student." in a Lightning checkpoint; other entries are left
            out. Without it, the starts "module." (DDP) and "_orig_mod." (compiled) are removed.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, would run code, or holds the weights of another network.
    """
    path = Path(path)
    weights = _state_dict(_read(path), path)
    for start in (prefix,) if prefix else ("module.", "_orig_mod."):
        if prefix or all(name.startswith(start) for name in weights):
            weights = {name.removeprefix(start): value for name, value in weights.items() if name.startswith(start)}
    if not weights:
        raise ValueError(f"expected weights whose names start with {prefix!r} in {path}, got none")
    _check_names(module.state_dict(), weights, path)
    module.load_state_dict(weights)
    return module


def _read(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"expected a checkpoint at {path}, found no such file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a reader of garbage stumbles over may be of any kind
        if isinstance(error, pickle.UnpicklingError) and _is_pickle(path):
            raise ValueError(
                f"{path} is a pickle that would run code when it is read, so it is refused. If you trust where it "
                f"comes from, convert it once: `{_CONVERSION}`, or write the state dict with "
                "safetensors.torch.save_file"
            ) from error
        raise ValueError(_damaged(path)) from error


def _is_pickle(path: Path) -> bool:
    """Tell files of torch.save and pickle.dump from text and noise, which the unpickler refuses with the same error."""
    with path.open("rb") as file:
        return file.read(2).startswith((b"PK", b"\x80"))


def _damaged(path: Path) -> str:
    return (
        f"expected a checkpoint of torch.save or a .safetensors file, got {path}, which is damaged or of another kind "
        f"({path.stat().st_size} bytes); fetch or write it again"
    )


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    for name in _WRAPPED_UNDER:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
            break
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        held = list(content)[:8] if isinstance(content, Mapping) else type(content).__name__
        raise ValueError(f"expected a state dict, or one under {', '.join(_WRAPPED_UNDER)}, in {path}, got {held}")
    return dict(content)


def _check_names(expected: Mapping[str, Tensor], got: Mapping[str, Tensor], path: Path) -> None:
    """Name the first entries that differ; torch's own message lists hundreds."""
    missing = [name for name in expected if name not in got]
    surplus = [name for name in got if name not in expected]
    shapes = [
        f"{name}: expected {tuple(expected[name].shape)}, got {tuple(got[name].shape)}"
        for name in expected
        if name in got and got[name].shape != expected[name].shape
    ]
    found = (("missing", missing), ("unexpected", surplus), ("of another shape", shapes))
    parts = [f"{len(names)} {what} ({_first(names)})" for what, names in found if names]
    if parts:
        raise ValueError(
            f"expected the weights of this network in {path}, got those of another one: {', '.join(parts)}; "
            "look at the network's name and number of classes, and at prefix="
        )


def _first(names: list[str]) -> str:
    more = len(names) - _NAMES_SHOWN
    return "; ".join(names[:_NAMES_SHOWN]) + (f"; and {more} more" if more > 0 else "")
