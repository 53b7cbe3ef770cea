"""`supermix-report figure4` and the others: read the command line, draw, write, say where to."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from supermix_pl.experiments.figures import (
    ablations,
    comparison,
    logit_map,
    settings_grid,
    top_probabilities,
)
from supermix_pl.experiments.figures.style import Drawn, save
from supermix_pl.experiments.shared import provenance
from supermix_pl.experiments.shared.subject import Subject

PROGRAM = "supermix_pl.experiments.reporting"
Opener = Callable[..., Subject]
_FOLDER = Path("figures")
_OVERRIDES = (
    "teacher, data and mixer as in supermix-train, such as data=parquet data.folder=... teacher=checkpoint "
    "teacher.checkpoint=... mixer.alpha=1; if not given, the embedded shapes and a teacher that is trained on them"
)


@dataclass(frozen=True, kw_only=True)
class OfSubject:
    """A figure of a teacher and data.

    Args:
        summary: What it shows.
        add_arguments: Adds its own arguments, `--images` among them.
        draw: Draws it.
        decides: What it decides itself of the mixer, beside who is mixed with whom, and how to ask for it.
    """

    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    draw: Callable[[Subject, argparse.Namespace], Drawn]
    decides: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class OfRuns:
    """A figure of runs.

    Args:
        summary: What it shows.
        add_arguments: Adds its own arguments.
        draw: Draws it; the folders are `chosen`.
    """

    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    draw: Callable[[argparse.Namespace], Drawn]


FIGURES: dict[str, OfSubject | OfRuns] = {
    "figure3": OfSubject(
        summary="one set under several smoothing factors and weights of the sparsity",
        add_arguments=settings_grid.add_arguments,
        draw=settings_grid.draw,
        decides={"mixer.sigma": "use --sigma", "mixer.lambda_s": "use --lambda-s"},
    ),
    "figure4": OfSubject(
        summary="sources, masks, mixes and class activation maps of SuperMix, CutMix and MixUp for several k",
        add_arguments=comparison.add_arguments,
        draw=comparison.draw,
        decides={"mixer.k": "use --k"},
    ),
    "figure5": OfRuns(
        summary="accuracy against the size of D', k, alpha, lambda_s, sigma and mask_size, of runs that differ in it",
        add_arguments=ablations.add_arguments,
        draw=ablations.draw,
    ),
    "figure6": OfSubject(
        summary="logits of natural images and mixes of three classes in two dimensions, and the spread of the classes",
        add_arguments=logit_map.add_arguments,
        draw=logit_map.draw,
    ),
    "figure7": OfSubject(
        summary="the teacher's five largest probabilities of natural images and mixes",
        add_arguments=top_probabilities.add_arguments,
        draw=top_probabilities.draw,
    ),
}


def main(arguments: Sequence[str], open_subject: Opener) -> None:
    """Draw the figure that the first word names; end the program with a message where that makes no sense.

    Args:
        arguments: Of the command line.
        open_subject: Loads teacher and images, from overrides, `num_images` and a `note`.
    """
    name = arguments[0]
    if name not in FIGURES:
        sys.exit(f"supermix-report: error: expected a figure of {', '.join(FIGURES)}, got {name!r}")
    parser = _parser(name)
    options = parser.parse_intermixed_args(list(arguments[1:]))
    try:
        drawn = _drawn(FIGURES[name], options, open_subject)
    except (ValueError, OSError, ImportError, HydraException, OmegaConfBaseException) as error:
        parser.error(str(error))
    paths = save(drawn.figure, options.output)
    paths.append(_write_numbers(paths[0].with_suffix(".json"), drawn, arguments))
    print("written to", ", ".join(map(str, paths)))


def _drawn(figure: OfSubject | OfRuns, options: argparse.Namespace, open_subject: Opener) -> Drawn:
    if isinstance(figure, OfRuns):
        return figure.draw(options)
    for override in options.chosen:
        decided = {"mixer.pairing": "all mixes are of the same neighbours", **figure.decides}
        name = override.lstrip("+~").partition("=")[0]
        if name in decided:
            raise ValueError(f"expected no {name}, which the figure decides: {decided[name]}; got {override}")
    return figure.draw(open_subject(options.chosen, num_images=options.images, note=options.note), options)


def _parser(name: str) -> argparse.ArgumentParser:
    figure = FIGURES[name]
    parser = argparse.ArgumentParser(prog=f"supermix-report {name}", description=f"Draw {figure.summary}.")
    if isinstance(figure, OfRuns):
        parser.add_argument(
            "chosen", nargs="+", type=Path, metavar="FOLDER", help="searched for runs of supermix-train"
        )
    else:
        parser.add_argument("chosen", nargs="*", metavar="OVERRIDE", help=_OVERRIDES)
    figure.add_arguments(parser)
    parser.add_argument("--output", type=Path, default=_FOLDER / name, help=f"path of the files; {_FOLDER / name}")
    parser.add_argument("--note", default="", help="a remark on the data for the title")
    return parser


def _write_numbers(path: Path, drawn: Drawn, arguments: Sequence[str]) -> Path:
    origin = provenance.collect(PROGRAM, arguments, seeds=drawn.seeds)
    content = {"origin": dataclasses.asdict(origin), "numbers": drawn.numbers}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return path
