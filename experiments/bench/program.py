"""What all benchmarks share: reading their config, ending in one line, writing NAME.md, NAME.json and NAME.png."""

import dataclasses
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from hydra.errors import HydraException
from hydra.utils import instantiate
from matplotlib.figure import Figure
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.progress import track

from supermix_pl.arguments import check_at_least
from supermix_pl.experiments.checks import check_kinds, named_errors
from supermix_pl.experiments.opening import composed, one_line
from supermix_pl.experiments.shared import provenance, render
from supermix_pl.experiments.shared.render import Heading, Notes, Part

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What every benchmark can be told; the values are those of conf/bench."""

    LEAST: ClassVar[Mapping[str, int]] = {}
    """Lower limits of numbers, and of all numbers in lists, which may not be empty."""

    folder: str  # where its files go
    name: str | None  # of the files, before the device; None for what was measured
    threads: int | None  # of the CPU, >= 1; None for torch's own choice

    def __post_init__(self) -> None:
        for name, least in {"threads": 1, **self.LEAST}.items():
            value = getattr(self, name)
            if isinstance(value, list) and (not value or min(value) < least):
                raise ValueError(f"expected bench.{name} with numbers >= {least}, got {value}")
            if isinstance(value, int):
                check_at_least(f"bench.{name}", value, least)
        self.check()

    def check(self) -> None:
        """Check what hangs together."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a benchmark found."""

    name: str  # of the files, before the device
    title: str
    remark: str  # on how it was measured
    tables: Sequence[Part]  # each with what must be said of it
    content: Mapping[str, Any]  # all numbers, ready for JSON
    seeds: Sequence[int]  # of all that was random
    device: torch.device
    figure: Figure | None = None


def run(program: str, measure: Callable[[DictConfig, Any], Result], overrides: Sequence[str] | None = None) -> None:
    """Read the config, measure, print and write; what makes no sense ends the program in one line.

    Without overrides those of the command line are taken.
    """
    overrides = sys.argv[1:] if overrides is None else list(overrides)
    if {"-h", "--help"} & set(overrides):
        print(resources.files("supermix_pl.conf.bench").joinpath(f"{program}.yaml").read_text(encoding="utf-8"))
        sys.exit()
    try:
        config = composed(f"bench/{program}", overrides)
        settings = read_settings(config)
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        Path(settings.folder).mkdir(parents=True, exist_ok=True)
        result = measure(config, settings)
    except (ValueError, TypeError, OSError, ImportError, HydraException, OmegaConfBaseException) as error:
        sys.exit(f"{program}: error: {one_line(error)}")
    _publish(program, result, overrides, settings)


def read_settings(config: DictConfig) -> Any:
    """Build the node `bench` of a config, whose values are of the kinds that it asks for."""
    check_kinds(config)
    with named_errors():
        return instantiate(config.bench, _convert_="all")


def check_sets(sets: int, batch_size: int, k: int) -> None:
    """Refuse sets that cannot be made of as many images, each once in the first place, in such batches."""
    check_at_least("bench.batch_size", batch_size, k)
    check_at_least("bench.sets", sets, k)
    if 0 < sets % batch_size < k:
        raise ValueError(
            f"expected batches of at least k = {k} sets, got a last one of {sets % batch_size}: change bench.sets or "
            "bench.batch_size"
        )


def tracked(items: Iterable[T], what: str) -> Iterable[T]:
    """Show how far a loop has come, beside the results and not among them."""
    return track(list(items), what, console=Console(stderr=True), transient=True)


def named(changes: Mapping[str, Any]) -> str:
    """Write changes as they stand in a call.

    >>> named({"sigma": 2.0, "views": None})
    'sigma=2.0, views=None'
    """
    return ", ".join(f"{name}={value!r}" for name, value in changes.items())


def _publish(program: str, result: Result, overrides: Sequence[str], settings: Settings) -> None:
    module = f"supermix_pl.experiments.bench.{program}"
    origin = provenance.collect(module, overrides, seeds=result.seeds, device=result.device)
    stem = Path(settings.folder) / f"{settings.name or result.name}_{result.device.type}"
    chosen = dataclasses.asdict(settings)
    chosen = {name: provenance.portable(value) if isinstance(value, str) else value for name, value in chosen.items()}
    said = "Settings: " + ", ".join(f"{name} {value}" for name, value in chosen.items())
    head = [Heading(text=result.title, level=1), Notes(lines=(*origin.lines(), said, result.remark))]
    written = [stem.with_name(stem.name + suffix) for suffix in (".md", ".json")]
    written[0].write_text(render.markdown([*head, *result.tables]), encoding="utf-8")
    whole = {"provenance": dataclasses.asdict(origin), "settings": chosen, "remark": result.remark, **result.content}
    written[1].write_text(json.dumps(whole, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    if result.figure is not None:
        written.append(stem.with_name(stem.name + ".png"))
        result.figure.savefig(written[-1], dpi=130)
    render.show(result.tables)
    print(f"written to {', '.join(map(str, written))}")
