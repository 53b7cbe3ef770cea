"""Every code block of the README and of the guide is run, or says why it is not and is checked as far as it can be."""

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
from omegaconf import OmegaConf

import supermix_pl
from supermix_pl import checkpoint, losses, metrics, transforms
from supermix_pl.experiments import reporting as report
from supermix_pl.experiments import resolvers
from tests.composing import compose

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^( *)```(python|bash)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
FENCE = re.compile(r"^ *```(.*)$", re.MULTILINE)
CHOICE = re.compile(r"\b(experiment|method|pair|protocol|scale|hparams_search)=([a-zA-Z0-9][\w-]*(?:,[\w-]+)*)")
FETCHED = re.compile(r"<(?:script|link|img)[^>]+(?:src|href)=[\"']?(?:https?:)?//[^\s>]*")
NOT_RUN = re.compile(r"<!-- not run: (.+) -->\s*\Z")
RUNNER = """
import json, os, subprocess, sys
names = {"__name__": "__page__"}
for block in json.load(sys.stdin):
    print("#", block["place"], flush=True)
    if block["language"] == "bash":
        subprocess.run(["bash", "-euo", "pipefail", "-c", block["code"]], check=True)
    else:
        exec(compile(block["code"], block["place"], "exec"), names)
"""
MISSING = ", ".join(name for name in ("material", "mkdocstrings_handlers") if find_spec(name) is None)
resolvers.register()


@dataclass(frozen=True)
class Block:
    """A block of code, where it stands, and why it is not run, if it is not."""

    language: str
    code: str
    place: str
    reason: str | None


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text()
    blocks = []
    for match in BLOCK.finditer(text):
        indent, language, code = match.groups()
        place = f"{page.name}:{text.count(chr(10), 0, match.start()) + 1}"
        marker = NOT_RUN.search(text[: match.start()])
        code = re.sub(f"^{indent}", "", code, flags=re.MULTILINE)
        blocks.append(Block(language, code, place, marker and marker[1]))
    return blocks


def commands_of(block: Block) -> list[list[str]]:
    lines = block.code.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


ALL = [block for page in PAGES for block in blocks_of(page)]
NOT_RUN_BLOCKS = [block for block in ALL if block.reason is not None]


def test_blocks_are_found() -> None:
    assert {"README.md", "index.md", "choose.md", "plain_pytorch.md"} <= {page.name for page in PAGES}
    assert sum(block.language == "python" for block in ALL) > 15
    fences = [fence for page in PAGES for fence in FENCE.findall(page.read_text())]
    others = sum(fences.count(language) for language in ("text", "yaml", "bibtex"))
    assert len(fences) == 2 * (len(ALL) + others)


@pytest.mark.parametrize("block", NOT_RUN_BLOCKS, ids=lambda block: block.place)
def test_blocks_that_are_not_run_are_code(block: Block) -> None:
    if block.language == "python":
        compile(block.code, block.place, "exec")
    else:
        subprocess.run(["bash", "-n", "-c", block.code], check=True)


@pytest.mark.parametrize("block", NOT_RUN_BLOCKS, ids=lambda block: block.place)
def test_commands_that_are_not_run_compose(block: Block) -> None:
    """The first value of every sweep; what Hydra itself would read is left out."""
    for words in commands_of(block) if block.language == "bash" else []:
        if words[0] in ("supermix-train", "supermix-generate"):
            values = [word for word in words[1:] if word != "-m" and not word.startswith("hydra")]
            firsts = [re.sub(r"=([^\[{]*?),.*", r"=\1", value) for value in values]
            config = compose(words[0].removeprefix("supermix-"), ["paths.root_dir=.", "paths.output_dir=.", *firsts])
            assert OmegaConf.to_yaml(config)


@pytest.mark.parametrize("block", NOT_RUN_BLOCKS, ids=lambda block: block.place)
def test_programs_that_are_not_run_have_these_options(block: Block, capsys: pytest.CaptureFixture[str]) -> None:
    for words in commands_of(block) if block.language == "bash" else []:
        if words[:2] == ["python", "-m"]:
            package = find_spec(words[2])
            assert package is not None
            name = f"{words[2]}.__main__" if package.submodule_search_locations else words[2]
            program, given = import_module(name).main, words[3:]
        elif words[0] == "supermix-report":
            program, given = report.main, words[1:]
        else:
            continue
        with pytest.raises(SystemExit) as ended:
            program([*given[: words[0] == "supermix-report"], "--help"])
        assert ended.value.code in (None, 0)
        known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
        assert {word.partition("=")[0] for word in given if word.startswith("--")} <= known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_choices_of_configs_exist(page: Path) -> None:
    for group, names in CHOICE.findall(page.read_text()):
        for name in names.split(","):
            assert (ROOT / "conf" / group / f"{name}.yaml").is_file(), f"{group}={name}"


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_run(tmp_path: Path, page: Path) -> None:
    blocks = [asdict(block) for block in blocks_of(page) if block.reason is None]
    if not blocks:
        pytest.skip(f"{page.name} has no block that can be run")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PATH": path, "MPLBACKEND": "agg"}
    done = subprocess.run(
        [sys.executable, "-c", RUNNER],
        input=json.dumps(blocks),
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert done.stdout.count(f"# {page.name}:") == len(blocks)


@pytest.mark.skipif(bool(MISSING), reason=f'needs pip install "supermix_pl[docs]" to build the guide: no {MISSING}')
def test_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # ruff breaks long signatures
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PATH": path}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {page: page.read_text() for page in tmp_path.rglob("*.html")}
    assert not {page: found for page, text in pages.items() if (found := FETCHED.findall(text))}
    assert r"\langle g, G g \rangle" in pages[tmp_path / "solver" / "index.html"]
    assert (tmp_path / "site" / "katex" / "fonts" / "KaTeX_Main-Regular.woff2").is_file()
    assert tmp_path / "experiments" / "results" / "few_images" / "index.html" in pages
    reference = "".join(text for page, text in pages.items() if page.is_relative_to(tmp_path / "api"))
    assert public_names() <= set(re.findall(r'id="([\w.]+)"', reference))


def public_names() -> set[str]:
    """Every name that users call, which the reference is to have."""
    names = {f"supermix_pl.{name}" for name in supermix_pl.__all__ if not name.startswith("_")}
    for module in (losses, metrics, transforms, checkpoint):
        own = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
        names |= {f"{module.__name__}.{name}" for name in own if not name.startswith("_") and name != "Network"}
    return names


def test_code_of_the_guide_fits_a_small_screen() -> None:
    """At 1280 pixels, and 84 columns beside navigation and contents."""
    guide = [block for page in PAGES if page.name != "README.md" for block in blocks_of(page)]
    wide = [(block.place, line) for block in guide for line in block.code.splitlines() if len(line) > 84]
    assert not wide


def test_every_record_is_linked() -> None:
    results = ROOT / "experiments" / "results"
    links = {
        (page.parent / link).resolve()
        for page in [*PAGES, *results.rglob("*.md")]
        for link in re.findall(r"\]\(([^)#:]+)", page.read_text())
    }
    assert set(results.rglob("*.md")) <= links | {link / "README.md" for link in links}


def test_pictures_of_the_guide_are_small_and_used() -> None:
    pictures = {path.name: path.stat().st_size for path in (ROOT / "docs" / "images").glob("*.png")}
    text = "".join(page.read_text() for page in PAGES)
    assert set(re.findall(r"\(images/([^)]+)\)", text)) == set(pictures)
    assert max(pictures.values()) < 300_000
