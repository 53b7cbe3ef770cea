"""The wheel holds every module and config, and works away from the checkout."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_the_wheel_installs_beside_and_every_module_imports(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=200)
    (wheel,) = tmp_path.glob("*.whl")
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
