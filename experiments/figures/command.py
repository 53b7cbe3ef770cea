"""`supermix-report figure4` and the others: read the command line, draw, write, say where to."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.errors import HydraException
from matplotlib.figure import Figure
from omegaconf.errors import OmegaConfBaseException

from supermix_pl.experiments.bench import provenance
from supermix_pl.experiments.figures import comparison, mixes
from supermix_pl.experiments.figures.style import SMALL, Drawn, save
from supermix_pl.experiments.figures.subject import Subject, open_subject

PROGRAM = "supermix_pl.experiments.report.command"
_FOLDER = Path("figures")


@dataclass(frozen=True, kw_only=True)
class OfSubject:
    """A figure of a teacher and data.

    Args:
        summary: What it shows.
        add_arguments: Adds its own arguments, `--images` among them.
        draw: Draws it.
    """

    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    draw: Callable[[Subject, argparse.Namespace], Drawn]


FIGURES: dict[str, OfSubject] = {
    "figure1": OfSubject(
        summary="pairs of sources, and masks and mixes of SuperMix, CutMix and MixUp",
        add_arguments=mixes.add_arguments,
        draw=mixes.draw,
    ),
    "figure4": OfSubject(
        summary="sources, masks, mixes and class activation maps of SuperMix, CutMix and MixUp for several k",
        add_arguments=comparison.add_arguments,
        draw=comparison.draw,
    ),
}


def main(arguments: Sequence[str]) -> None:
    """Draw the figure that the first word names; end the program with a message where that makes no sense."""
    name = arguments[0]
    if name not in FIGURES:
        sys.exit(f"supermix-report: error: expected a figure of {', '.join(FIGURES)}, got {name!r}")
    parser = _parser(name)
    options = parser.parse_intermixed_args(list(arguments[1:]))
    try:
        subject = open_subject(options.chosen, num_images=options.images)
        drawn = FIGURES[name].draw(subject, options)
    except (ValueError, OSError, ImportError, HydraException, OmegaConfBaseException) as error:
        parser.error(str(error))
    _remark(drawn.figure, options.note)
    paths = save(drawn.figure, options.output)
    paths.append(_write_numbers(paths[0].with_suffix(".json"), drawn, arguments))
    print("written to", ", ".join(map(str, paths)))


def _parser(name: str) -> argparse.ArgumentParser:
    figure = FIGURES[name]
    parser = argparse.ArgumentParser(prog=f"supermix-report {name}", description=f"Draw {figure.summary}.")
    parser.add_argument(
        "chosen",
        nargs="*",
        metavar="OVERRIDE",
        help="teacher, data and mixer as in supermix-train, such as data=parquet data.folder=... teacher=checkpoint "
        "teacher.checkpoint=... mixer.sigma=2; if not given, the embedded shapes and a teacher that is trained on them",
    )
    figure.add_arguments(parser)
    parser.add_argument("--output", type=Path, default=_FOLDER / name, help=f"path of the files; {_FOLDER / name}")
    parser.add_argument("--note", default="", help="a remark for the foot, such as how the data were split")
    return parser


def _remark(figure: Figure, note: str) -> None:
    """Put a remark under a figure, where its layout leaves room."""
    if not note:
        return
    if figure.get_layout_engine() is None:
        figure.text(0.01, 0.06 / figure.get_figheight(), note, fontsize=SMALL)
    else:
        figure.supxlabel(note, fontsize=SMALL)


def _write_numbers(path: Path, drawn: Drawn, arguments: Sequence[str]) -> Path:
    origin = provenance.collect(PROGRAM, arguments, seeds=drawn.seeds)
    content = {"origin": dataclasses.asdict(origin), "numbers": drawn.numbers}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return path
