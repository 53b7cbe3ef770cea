"""Configs as a command line composes them. Hydra takes 0.3 s for one, so the groups are composed once a process."""

import copy
import functools
from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig


def compose(name: str, overrides: Iterable[str] = ()) -> DictConfig:
    """Return the config, to keep and to change. Values of existing keys are set after the groups, as Hydra does it."""
    overrides = list(overrides)
    values = [each for each in overrides if _is_value(each)]
    config = copy.deepcopy(_composed(name, tuple(each for each in overrides if each not in values)))
    config.merge_with_dotlist(values)
    return config


def compose_anew(name: str, overrides: Iterable[str], **options: Any) -> DictConfig:
    """Let Hydra compose it, with what Hydra says of wrong keys."""
    initialized = GlobalHydra.instance().is_initialized()
    with nullcontext() if initialized else hydra.initialize_config_module("supermix_pl.conf", version_base="1.3"):
        return hydra.compose(name, list(overrides), **options)


@functools.cache
def _composed(name: str, groups: tuple[str, ...]) -> DictConfig:
    return compose_anew(name, groups)


def _is_value(override: str) -> bool:
    key = override.partition("=")[0]
    return "." in key and "@" not in key and key[0] not in "+~" and not key.startswith("hydra")
