"""`supermix-report`: tables, figures and a page of what was measured; the first word says which."""

import sys
from collections.abc import Sequence

_EXTRAS = ("jinja2", "matplotlib", "pandas", "scipy")
_USE = """usage: supermix-report table1|table2|table3|table5|custom FOLDER ...
       supermix-report figure4 [OVERRIDE ...]
       supermix-report figure5 FOLDER ...
       supermix-report html FOLDER ...
       supermix-report rows CSV FOLDER ...

Tables put what was measured beside the paper's numbers. Figures are drawn of runs, or of a teacher and data that are
chosen as in supermix-train. html writes a page. rows adds runs of experiment=few_images
to a CSV. Each has its own help: supermix-report table2 --help"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Hand the arguments on to the command of their first word."""
    arguments = sys.argv[1:] if arguments is None else arguments
    word = arguments[0] if arguments else ""
    if word in ("", "-h", "--help"):
        print(_USE)
        sys.exit(0 if word else 2)
    try:
        _hand_on(word, arguments)
    except ModuleNotFoundError as error:
        if error.name not in _EXTRAS:
            raise
        sys.exit(f'supermix-report: error: {word} needs {error.name}: pip install "supermix_pl[experiments]"')


def _hand_on(word: str, arguments: Sequence[str]) -> None:
    if word == "html":
        from supermix_pl.experiments.report import command

        command.write_page(arguments[1:])
    elif word == "rows":
        from supermix_pl.experiments import few_images

        few_images.main(arguments[1:])
    elif word.startswith("figure"):
        from supermix_pl.experiments.figures import command
        from supermix_pl.experiments.opening import open_drawn

        command.main(arguments, open_drawn)
    else:
        from supermix_pl.experiments.report import command

        command.write_table(arguments)


if __name__ == "__main__":
    main()
