"""`supermix-report figure4` and `figure5`: read the command line, draw, write, say where to."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from supermix_pl.experiments.figures import ablations, comparison
from supermix_pl.experiments.figures.style import Drawn, save
from supermix_pl.experiments.shared import provenance
from supermix_pl.experiments.shared.subject import Subject

PROGRAM = "supermix_pl.experiments.reporting"
FIGURES = {
    "figure4": "sources, masks and mixes of SuperMix, CutMix and MixUp for several k",
    "figure5": "accuracy against the size of D', k, alpha, lambda_s, sigma and mask_size, of runs that differ in it",
}
_DECIDED = {"mixer.pairing": "all mixes are of the same neighbours", "mixer.k": "use --k"}
_FOLDER = Path("figures")
_OVERRIDES = (
    "teacher, data and mixer as in supermix-train, such as data=parquet data.folder=... teacher=checkpoint "
    "teacher.checkpoint=... mixer.alpha=1; if not given, the embedded shapes and a teacher that is trained on them"
)


def main(arguments: Sequence[str], open_subject: Callable[..., Subject]) -> None:
    """Draw the figure that the first word names; end the program with a message where that makes no sense."""
    name = arguments[0]
    if name not in FIGURES:
        sys.exit(f"supermix-report: error: expected a figure of {', '.join(FIGURES)}, got {name!r}")
    parser = _parser(name)
    options = parser.parse_intermixed_args(list(arguments[1:]))
    try:
        drawn = ablations.draw(options) if name == "figure5" else _compared(options, open_subject)
    except (ValueError, OSError, ImportError, HydraException, OmegaConfBaseException) as error:
        parser.error(str(error))
    paths = save(drawn.figure, options.output)
    paths.append(_write_numbers(paths[0].with_suffix(".json"), drawn, arguments))
    print("written to", ", ".join(map(str, paths)))


def _compared(options: argparse.Namespace, open_subject: Callable[..., Subject]) -> Drawn:
    for override in options.chosen:
        name = override.lstrip("+~").partition("=")[0]
        if name in _DECIDED:
            raise ValueError(f"expected no {name}, which the figure decides: {_DECIDED[name]}; got {override}")
    return comparison.draw(open_subject(options.chosen, num_images=options.images, note=options.note), options)


def _parser(name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"supermix-report {name}", description=f"Draw {FIGURES[name]}.")
    add = parser.add_argument
    if name == "figure5":
        add("chosen", nargs="+", type=Path, metavar="FOLDER", help="searched for runs of supermix-train")
        add("--best", action="store_true", help="accuracy of the best epochs, in place of the last ones")
    else:
        add("chosen", nargs="*", metavar="OVERRIDE", help=_OVERRIDES)
        comparison.add_arguments(parser)
    add("--output", type=Path, default=_FOLDER / name, help=f"path of the files; {_FOLDER / name}")
    add("--note", default="", help="a remark on the data for the title")
    return parser


def _write_numbers(path: Path, drawn: Drawn, arguments: Sequence[str]) -> Path:
    origin = provenance.collect(PROGRAM, arguments, seeds=drawn.seeds)
    content = {"origin": dataclasses.asdict(origin), "numbers": drawn.numbers}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return path
