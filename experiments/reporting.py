"""`supermix-report`: tables, figures and a page of what was measured; the first word says which."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from supermix_pl.experiments.shared import provenance, render
from supermix_pl.experiments.shared.files import write_whole
from supermix_pl.experiments.shared.render import Heading, Notes
from supermix_pl.experiments.shared.runs.paper import TABLES

_PROGRAM = "supermix_pl.experiments.reporting"
_WHAT = {
    **dict.fromkeys(TABLES, "Print a table of the paper's beside what runs of supermix-train measured."),
    "custom": "Print what runs of supermix-train measured of pairs and methods that are in no table of the paper's.",
    "figure4": "Draw sources, masks and mixes of SuperMix, CutMix and MixUp for several k.",
    "figure5": "Draw accuracy against the size of D', k, alpha, lambda_s, sigma, mask_size, of runs that differ in it.",
    "html": "Write the runs of a sweep on one page that needs no other file: results, curves, settings.",
    "rows": "Add a row to a CSV for each finished run of experiment=few_images that has none, and compare the arms.",
}
_OUTPUTS = {
    **dict.fromkeys(TABLES, "file to write, .md or .csv; the terminal if not given"),
    **{name: f"path of the files; figures/{name} if not given" for name in ("figure4", "figure5")},
    "html": "file to write; report.html in the first of the folders if not given",
    "rows": "file of the comparison, as Markdown; the terminal if not given",
}
_USE = """usage: supermix-report table1|table2|table3|table5|custom FOLDER ...
       supermix-report figure4 [OVERRIDE ...]
       supermix-report figure5 FOLDER ...
       supermix-report html FOLDER ...
       supermix-report rows CSV [FOLDER ...]

Table 4 is printed by its benchmark. Each word has its own help: supermix-report table2 --help"""
_OVERRIDES = (
    "teacher, data and mixer as in supermix-train, such as data=parquet data.folder=... teacher=checkpoint "
    "teacher.checkpoint=... mixer.alpha=1; if not given, the embedded shapes and a teacher that is trained on them"
)
_DECIDED = {"mixer.pairing": "all mixes are of the same neighbours", "mixer.k": "use --k"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what the first word says; what makes no sense ends the program in one message."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    word = arguments[0] if arguments else ""
    if word in ("", "-h", "--help"):
        print(_USE)
        sys.exit(0 if word else 2)
    parser = _parser(word)
    options = parser.parse_intermixed_args(arguments[1:])
    run = {"html": _page, "rows": _rows, "figure4": _figure, "figure5": _figure}.get(word, _table)
    try:
        run(word, options, arguments)
    except ModuleNotFoundError:
        raise  # the command tells what to install
    except (ValueError, OSError, ImportError, HydraException, OmegaConfBaseException) as error:
        parser.error(str(error))


def _parser(word: str) -> argparse.ArgumentParser:
    if word not in _WHAT:
        argparse.ArgumentParser("supermix-report").error(f"expected one of {', '.join(_WHAT)}, got {word!r}")
    parser = argparse.ArgumentParser(prog=f"supermix-report {word}", description=_WHAT[word])
    add = parser.add_argument
    if word == "figure4":
        add("runs", nargs="*", metavar="OVERRIDE", help=_OVERRIDES)
        add("--k", type=_numbers, default=[2, 3, 4], metavar="K,K", help="sources in a set, each >= 2; default 2,3,4")
        add("--sets", type=int, default=1, help="sets of each k; default 1")
        add("--images", type=int, default=256, help="test images among which sets are looked for; default 256")
    else:
        if word == "rows":
            add("csv", type=Path, help="file of the rows")
        many = "*" if word == "rows" else "+"
        add("runs", type=Path, nargs=many, metavar="FOLDER", help="searched for runs of supermix-train")
    if word == "figure5":
        add("--best", action="store_true", help="take the accuracies of the best epochs, not of the last ones")
    if word == "html":
        add("--title", default="Runs of supermix-train", help="default %(default)s")
    add("--output", type=Path, help=_OUTPUTS[word])
    if word != "rows":
        add("--note", action="append", default=[], help="a remark for the head, such as how the data were split")
    return parser


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _table(word: str, options: argparse.Namespace, arguments: Sequence[str]) -> None:
    """Gather the runs of a table, compare them with the paper, print or write."""
    from supermix_pl.experiments.report.tables import accuracies

    output = options.output
    if output is not None and output.suffix not in (".md", ".csv"):
        raise ValueError(f"expected --output with a suffix of .md or .csv, got {output}")
    report = accuracies(word, options.runs, notes=options.note)
    origin = provenance.collect(_PROGRAM, arguments, seeds=report.seeds)
    made = ("The report's own, not the runs':", *origin.lines())
    parts = [*report.parts, Heading(text="Where this report comes from"), Notes(lines=made)]
    if output is None:
        render.show(parts)
        return
    if report.not_counted:
        print("not counted:", *report.not_counted, sep="\n", file=sys.stderr)
    write_whole(output, report.records.to_csv(index=False) if output.suffix == ".csv" else render.markdown(parts))
    print(f"written to {output}", file=sys.stderr)


def _page(word: str, options: argparse.Namespace, arguments: Sequence[str]) -> None:
    from supermix_pl.experiments.report.page import page

    output = options.output or options.runs[0] / "report.html"
    write_whole(output, page(options.runs, title=options.title, notes=options.note, arguments=arguments[1:]))
    print(output)


def _rows(word: str, options: argparse.Namespace, arguments: Sequence[str]) -> None:
    from supermix_pl.experiments import few_images

    added, passed_over = few_images.add_rows(options.csv, options.runs)
    print(*(f"passed over {line}" for line in passed_over), sep="\n", end="\n" * bool(passed_over))
    rows = few_images.read(options.csv)
    print(f"{added} rows added to {options.csv}, which has {len(rows)}")
    tables = few_images.compare(rows)
    if options.output is None:
        render.show(tables)
    else:
        write_whole(options.output, render.markdown(tables))


def _figure(word: str, options: argparse.Namespace, arguments: Sequence[str]) -> None:
    """Draw a figure, and write its numbers beside it."""
    from supermix_pl.experiments import opening
    from supermix_pl.experiments.figures import ablations, comparison
    from supermix_pl.experiments.figures.style import save

    note = "; ".join(options.note)
    if word == "figure5":
        drawn = ablations.draw(options.runs, best=options.best, note=note)
    else:
        for override in options.runs:
            name = override.lstrip("+~").partition("=")[0]
            if name in _DECIDED:
                raise ValueError(f"expected no {name}, which the figure decides: {_DECIDED[name]}; got {override}")
        subject = opening.open_drawn(options.runs, num_images=options.images, note=note)
        drawn = comparison.draw(subject, options.k, options.sets)
    paths = save(drawn.figure, options.output or Path("figures") / word)
    origin = provenance.collect(_PROGRAM, arguments, seeds=drawn.seeds)
    paths.append(paths[0].with_suffix(".json"))
    write_whole(
        paths[-1], json.dumps({"origin": dataclasses.asdict(origin), "numbers": drawn.numbers}, indent=1) + "\n"
    )
    print("written to", ", ".join(map(str, paths)))


if __name__ == "__main__":
    main()
