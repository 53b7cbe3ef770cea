"""The wheel holds every module and config, and works away from the checkout; what a release says agrees."""

import json
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from supermix_pl import __version__

ROOT = Path(__file__).resolve().parents[1]


USE = """from supermix_pl import FrozenTeacher, SuperMix, SuperMixCallback

mixer: SuperMix = SuperMix.fast(k=3)
SuperMixCallback("ema", mixer, start_epoch=3)
wrong: int = SuperMix(k=3)
FrozenTeacher("teacher.pth")
"""


def test_the_version_is_the_same_everywhere() -> None:
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == __version__
    assert f"\n## [{__version__}]\n" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.slow
def test_the_wheel_installs_beside_and_every_module_imports(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=200)  # the source, and of it the wheel
    (wheel,), (source,) = tmp_path.glob("*.whl"), tmp_path.glob("*.tar.gz")
    if find_spec("twine") is not None:
        subprocess.run([sys.executable, "-m", "twine", "check", "--strict", wheel, source], check=True, timeout=60)
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
        names = set(archive.namelist())
    sources = [
        *(ROOT / "supermix_pl").rglob("*.py"),
        *(ROOT / "experiments").rglob("*.py"),
        *(ROOT / "conf").rglob("*.yaml"),
        *(
            path
            for kind in ("*.yaml", "*.json", "*.j2")
            for path in (ROOT / "experiments").rglob(kind)
            if "results" not in path.parts
        ),
    ]
    for source in sources:
        relative = source.relative_to(ROOT)
        inside = relative if relative.parts[0] == "supermix_pl" else Path("supermix_pl") / relative
        assert inside.as_posix() in names
    modules = [
        name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in names if name.endswith(".py")
    ]
    code = f"""
import importlib, supermix_pl
assert supermix_pl.__file__.startswith({str(site)!r}), supermix_pl.__file__
for name in {sorted(modules)!r}:
    importlib.import_module(name)
from supermix_pl.experiments.shared.runs.paper import load
load()
from hydra import compose, initialize_config_module
with initialize_config_module("supermix_pl.conf", version_base="1.3"):
    assert compose("train", ["mixer=supermix"]).mixer.k == 2
"""
    environment = {"PYTHONPATH": str(site), "PATH": "", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert "supermix_pl/py.typed" in names
    (tmp_path / "use.py").write_text(USE)
    (tmp_path / "pyrightconfig.json").write_text(json.dumps({"extraPaths": ["site"], "include": ["use.py"]}))
    pyright = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
    found = json.loads(subprocess.run(pyright, cwd=tmp_path, capture_output=True, text=True, timeout=200).stdout)
    assert [each["range"]["start"]["line"] for each in found["generalDiagnostics"]] == [4, 5], found
