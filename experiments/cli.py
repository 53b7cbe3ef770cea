"""`supermix-train`, `supermix-generate` and `supermix-report`: help at once, or else the program."""

import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.resources import files

_TRAIN = """supermix-train trains a teacher or a student as its settings say: data, network, teacher, mixer, loss,
budget. It leaves metrics.json, curves, weights and the whole config in a folder of its own, and ends with its result.
Stopped, the same command goes on; what is finished is passed over.

The recommendation on embedded images, some minutes; a sweep over k and seeds; few images of your own:
  supermix-train experiment=quickstart
  supermix-train -m experiment=quickstart mixer.k=2,3 seed=0,1
  supermix-train experiment=few_images method=kd_all_supermix data.folder=DIR teacher.checkpoint=FILE

Every setting is GROUP=CHOICE or NAME=VALUE, such as optimizer.lr=0.05. --cfg job prints all of them; --hydra-help
tells of the rest. A value with = in it is quoted twice: 'data.folder="a=b"'.
"""
_GENERATE = """supermix-generate makes a fixed data set of mixes, solved under the views that students get, by a process
for each GPU. Stopped, it goes on; started on several machines, they share the work.

With the recommended mixer; with the paper's solver and three sources; and training on what was made:
  supermix-generate mixes.folder=mixes num_mixes=20000 experiment=few_images data.folder=DIR teacher.checkpoint=FILE
  supermix-generate mixes.folder=mixes mixer=supermix mixer.k=3 data=cifar100 teacher=checkpoint teacher.checkpoint=FILE
  supermix-train mixes=folder mixes.folder=mixes experiment=few_images data.folder=DIR teacher.checkpoint=FILE
"""
_PACKAGES = (
    *("datasets", "filelock", "hydra", "jinja2", "matplotlib", "omegaconf", "pandas", "pyarrow", "rich", "scipy"),
    "yaml",
)
_GROUPS_LEFT_OUT = ("bench", "hydra", "method", "paths")


def train() -> None:
    """Run supermix-train."""
    if _wants_help():
        print(_TRAIN, "\nmethod=", *(f"  {name:30} {text}" for name, text in _methods()), "", *_groups(), sep="\n")
        return
    _refuse_null()
    _run("train")


def generate() -> None:
    """Run supermix-generate."""
    if _wants_help():
        print(_GENERATE, *_groups(), sep="\n")
        return
    _refuse_null()
    _run("generate")


def report() -> None:
    """Run supermix-report."""
    _run("reporting")


def _run(program: str) -> None:
    """Run a program; say what to install where a package of the experiments is missing."""
    try:
        import_module(f"supermix_pl.experiments.{program}").main()
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        if package not in _PACKAGES:
            raise
        sys.exit(
            f"expected the packages of the experiments, got no {package}; install them with "
            "pip install 'supermix_pl[experiments]'"
        )


def _wants_help() -> bool:
    return any(word in ("-h", "--help") for word in sys.argv[1:])


def _methods() -> Iterator[tuple[str, str]]:
    """Return each method with the last comment at the head of its file."""
    for file in sorted((files("supermix_pl") / "conf" / "method").iterdir(), key=lambda file: file.name):
        head = file.read_text(encoding="utf-8").partition("defaults:")[0]
        yield file.name.removesuffix(".yaml"), head.splitlines()[-1].removeprefix("# ")


def _groups() -> Iterator[str]:
    """Return the other groups with their choices, a line each."""
    for group, names in _choices():
        if group not in _GROUPS_LEFT_OUT:
            yield f"{group}=  {' '.join(names)}"


def _choices() -> Iterator[tuple[str, list[str]]]:
    """Return each group with the names of its choices."""
    for folder in sorted((files("supermix_pl") / "conf").iterdir(), key=lambda folder: folder.name):
        if folder.is_dir() and not folder.name.startswith("_"):
            names = sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))
            yield folder.name, [name for name in names if name != "base"]  # what the others are made of


def _refuse_null() -> None:
    """End where no choice of a group is asked for, such as by mixer=null: Hydra ends in a trace."""
    for group, names in _choices():
        if f"{group}=null" in sys.argv:
            sys.exit(f"expected {group}= with one of {', '.join(names)}, got null")
