"""Imports run downhill, as the design has it, and importing the plugin loads no experiment."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import supermix_pl

PACKAGE = Path(supermix_pl.__file__).parent
ALLOWED: dict[str, set[str]] = {
    "version": set(),
    "arguments": set(),
    "batch": set(),
    "checkpoint": set(),
    "metrics": set(),
    "losses": {"arguments"},
    "transforms": {"arguments"},
    "teacher": {"arguments", "checkpoint"},
    "solver": {"arguments", "teacher"},
    "mixing": {"arguments", "solver", "teacher", "transforms"},
    "engine": {"arguments", "mixing", "solver", "teacher", "transforms"},
    "pictures": {"arguments", "mixing", "teacher"},
    "trainer": {"arguments", "batch", "engine", "losses", "mixing", "pictures", "solver", "teacher"},
    "callback": {"arguments", "batch", "engine", "mixing", "teacher", "trainer"},
    "mixin": {"callback", "mixing"},
    "__init__": {"callback", "engine", "mixin", "mixing", "teacher", "version"},
}
TEACHER: dict[str, set[str]] = {
    "outputs": set(),
    "several": set(),
    "folding": {"outputs"},
    "passes": {"frozen", "outputs"},
    "copying": set(),
    "published": set(),
    "normalising": set(),
    "frozen": {"folding", "normalising", "outputs", "published", "several"},
    "moving_average": {"copying", "frozen"},
    "__init__": {"frozen", "moving_average"},
}
TRAINER: dict[str, set[str]] = {
    "base": set(),
    "wrapping": set(),
    "interception": {"wrapping"},
    "resuming": set(),
    "side_files": {"wrapping"},
    "stopwatch": set(),
    "student_classes": set(),
    "advice": set(),
    "log": {"stopwatch"},
    "rewriting": set(),
    "supervision": set(),
    "distilling": {"wrapping"},
    "schedule": set(),
    "fit": {
        "advice",
        "distilling",
        "interception",
        "log",
        "rewriting",
        "schedule",
        "side_files",
        "stopwatch",
        "supervision",
        "wrapping",
    },
    "__init__": set(),
}
STREAM: dict[str, set[str]] = {
    "ring": set(),
    "plan": set(),
    "timing": set(),
    "images": {"ring"},
    "slots": {"images", "ring"},
    "visit": set(),
    "solving": {"images", "plan", "ring", "slots", "timing", "visit"},
    "settings": set(),
    "step": set(),
    "state": {"images", "ring", "solving", "step"},
    "direct": {"images", "settings", "state", "step"},
    "lessons": {"images", "plan", "settings", "slots", "solving", "state", "step"},
    "replanning": {"plan", "settings", "solving", "state"},
    "engine": {"direct", "images", "lessons", "plan", "replanning", "settings", "state", "step"},
    "__init__": {"engine"},
}
EXPERIMENTS: dict[str, set[str]] = {
    "__init__": set(),
    "shared": set(),
    "data": {"shared"},
    "networks": set(),
    "tasks": {"data", "networks", "shared"},
    "mixes": {"data", "shared"},
    "evaluation": {"data"},
    "resolvers": set(),
    "teachers": {"data", "networks", "shared", "tasks"},
    "building": {"data", "mixes", "networks", "resolvers", "shared", "tasks", "teachers"},
    "checks": {"building", "data", "mixes", "shared", "tasks", "teachers"},
    "cli": set(),
    "opening": {"building", "checks", "data", "mixes", "shared"},
    "record": set(),
    "figures": {"shared"},
    "report": {"shared"},
    "checkpoints": {"shared"},
    "restart": {"checkpoints", "shared"},
    "train": {"building", "checkpoints", "checks", "few_images", "record", "restart", "shared", "tasks", "teachers"},
    "generate": {"building", "checks", "mixes", "shared"},
    "evaluate": {"building", "data", "evaluation", "shared"},
    "sweep": {"resolvers"},
    "few_images": {"evaluate", "evaluation", "shared"},
    "demo": {"evaluate", "evaluation", "figures", "opening", "record", "report", "shared", "train"},
    "reporting": {"few_images", "figures", "opening", "report", "shared"},
    "bench": {"checks", "networks", "opening", "shared"},
}
BENCH: dict[str, set[str]] = {
    "__init__": set(),
    "passes": set(),
    "cost": {"passes"},
    "program": set(),
    "solver": {"cost", "passes", "program"},
    "step": {"passes", "program"},
    "table4": {"cost", "passes", "program"},
    "gpu": {"program", "step"},
}
FOREIGN = {"hydra", "omegaconf", "experiments"}
LINKS = {"conf", "experiments"}  # top-level folders, linked into the package
SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] not in LINKS)


PROGRAMS = PACKAGE / "experiments"
PROGRAM_SOURCES = sorted(path for path in PROGRAMS.resolve().rglob("*.py") if "results" not in path.parts)


def room_of(path: Path, package: Path = PACKAGE) -> str:
    first = path.relative_to(package).parts[0]
    return first.removesuffix(".py")


def imports_of(source: str) -> set[str]:
    """Full names of all modules that a source imports, wherever in it; those of a package may be names of it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import of {node.module}"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def rooms_in(imports: set[str], package: str = "supermix_pl") -> set[str]:
    """The rooms of a package that are imported."""
    start = f"{package}."
    within = (name.removeprefix(start) for name in imports if f"{name}.".startswith(start))
    return {"__init__" if f"{rest}." == start else rest.split(".")[0] for rest in within}


def test_every_room_is_known() -> None:
    assert len(SOURCES) > 25
    assert {room_of(path) for path in SOURCES} <= set(ALLOWED)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_downhill(path: Path) -> None:
    imports = imports_of(path.read_text())
    room = room_of(path)
    assert rooms_in(imports) - {room} <= ALLOWED[room]
    assert not {name.split(".")[0] for name in imports} & FOREIGN


WITHIN = {"teacher": TEACHER, "trainer": TRAINER, "engine/stream": STREAM}


@pytest.mark.parametrize(
    ("package", "path"),
    [(package, path) for package in WITHIN for path in sorted((PACKAGE / package).glob("*.py"))],
    ids=lambda value: value if isinstance(value, str) else value.stem,
)
def test_imports_run_downhill_within_a_package(package: str, path: Path) -> None:
    within = rooms_in(imports_of(path.read_text()), f"supermix_pl.{package.replace('/', '.')}")
    assert within - {path.stem} <= WITHIN[package][path.stem]


@pytest.mark.parametrize("path", PROGRAM_SOURCES, ids=lambda path: str(path.relative_to(PROGRAMS.resolve())))
def test_imports_run_downhill_within_the_experiments(path: Path) -> None:
    imports = imports_of(path.read_text())
    room = room_of(path, PROGRAMS.resolve())
    assert rooms_in(imports, "supermix_pl.experiments") - {room} <= EXPERIMENTS[room]
    if room == "bench":
        part = room_of(path, PROGRAMS.resolve() / "bench")
        assert rooms_in(imports, "supermix_pl.experiments.bench") - {part} <= BENCH[part]


def test_every_part_of_the_experiments_has_a_layer() -> None:
    assert len(PROGRAM_SOURCES) > 70
    assert {room_of(path, PROGRAMS.resolve()) for path in PROGRAM_SOURCES} == set(EXPERIMENTS)
    bench = PROGRAMS.resolve() / "bench"
    assert {room_of(path, bench) for path in PROGRAM_SOURCES if path.is_relative_to(bench)} == set(BENCH)


@pytest.mark.parametrize("rooms", [ALLOWED, *WITHIN.values(), EXPERIMENTS, BENCH])
def test_allowed_imports_have_no_circle(rooms: dict[str, set[str]]) -> None:
    below: dict[str, set[str]] = {}
    while len(below) < len(rooms):
        free = [room for room, allowed in rooms.items() if room not in below and allowed <= set(below)]
        assert free, set(rooms) - set(below)
        below |= {room: set() for room in free}


def test_the_reader_of_imports_sees_all_kinds() -> None:
    source = """
import hydra.core
import supermix_pl.callback as c
from supermix_pl import mixing
def f():
    from supermix_pl.solver.masks import upsample
"""
    imports = imports_of(source)
    assert rooms_in(imports) == {"callback", "mixing", "solver"}
    assert {name.split(".")[0] for name in imports} & FOREIGN == {"hydra"}


def test_importing_the_plugin_loads_no_experiment() -> None:
    program = """
import sys
import supermix_pl, supermix_pl.batch, supermix_pl.checkpoint, supermix_pl.losses, supermix_pl.metrics
import supermix_pl.transforms
loaded = {name.split(".")[0] for name in sys.modules} | {".".join(name.split(".")[:2]) for name in sys.modules}
print(sorted(loaded & {"hydra", "experiments", "supermix_pl.experiments", "supermix_pl.conf"}))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    )
    assert done.stdout.split("\n")[-2] == "[]"


def test_public_names() -> None:
    mixing = "BatchEngine CutMix FMix FrozenTeacher MixUp MixedBatch MovingAverage OneOf PuzzleMix ResizeMix"
    mixing += " SaliencyMix StreamEngine SuperMix"
    assert sorted(supermix_pl.__all__) == f"{mixing} SuperMixCallback SuperMixMixin __version__".split()
    assert all(hasattr(supermix_pl, name) for name in supermix_pl.__all__)
