"""The HTML report: what is on the page, that nothing from runs becomes markup, and how a browser shows it."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markupsafe import escape
from PIL import Image

from supermix_pl.experiments import cli
from supermix_pl.experiments.report.charts import curve, read_log
from supermix_pl.experiments.reporting import main as report
from tests.experiments.report.report_folders import write_run
from tests.experiments.report.report_page_sweep import HOSTILE, write_sweep

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
TWO = ("plain", "kd_supermix")


class Elements(HTMLParser):
    """All elements of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += f"{data}\n"


def written(folder: Path, *options: str) -> str:
    path = folder / "report.html"
    report(["html", str(folder), "--output", str(path), *options])
    return path.read_text(encoding="utf-8")


def test_without_scipy_it_names_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_sweep(tmp_path / "runs", methods=TWO)
    assert written(folder)  # other packages load scipy where it is there
    monkeypatch.setitem(sys.modules, "scipy", None)
    monkeypatch.setattr(sys, "argv", ["supermix-report", "html", str(folder)])
    with pytest.raises(SystemExit, match=r"got no scipy; install them with pip install 'supermix_pl\[experiments\]'"):
        cli.report()


def test_the_page_has_results_curves_and_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = Elements(written(write_sweep(tmp_path, methods=TWO), "--note", "re-split"))

    assert capsys.readouterr().out == f"{tmp_path / 'report.html'}\n"
    assert "re-split" in page.text
    for word in (
        "agreement with the teacher %",
        "52.00",
        "KL to the teacher, nats",
        "0.730",
        "kd_supermix",
        "FGSM accuracy %",
        "calibration error %",
        "optimizer.lr=0.05",
        "0, 1, 2",
        "with data.validation_fraction, on images that are held out",
    ):
        assert word in page.text
    charts = [attributes["aria-label"] for tag, attributes in page.found if tag == "svg" and "aria-label" in attributes]
    assert charts == ["validation accuracy %", "training loss"]
    assert [tag for tag, _ in page.found].count("i") == 3  # intervals, one a row
    names = [attributes["id"] for _, attributes in page.found if "id" in attributes]
    assert len(names) == len(set(names))


def test_engines_are_never_averaged(tmp_path: Path) -> None:
    page = written(write_sweep(tmp_path, methods=TWO)).partition("</table>")[0]
    rows = re.findall(r'<tr><th class="name" scope="row">(.*?)</th><td>(.*?)</td>\s*<td[^>]*>(.*?)\n', page)
    assert [(name, seeds) for name, seeds, _ in rows] == [
        ("resnet8 (no teacher): plain", "0, 1, 2"),
        ("wrn_16_2-resnet8: kd_supermix (engine=BatchEngine, no engine.reuse)", "0, 1, 2"),
        ("wrn_16_2-resnet8: kd_supermix (engine=StreamEngine, engine.reuse=8)", "0, 1, 2"),
    ]
    assert len({number for *_, number in rows}) == 3


def test_rows_stand_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for alpha in (10, 3.0, 0.25, 0.3):
        write_run(tmp_path / str(alpha), method="kd_supermix", mixer={"alpha": alpha})
    results = written(tmp_path).partition("</table>")[0]
    assert re.findall(r"mixer\.alpha=([\d.]+)\)", results) == ["0.25", "0.3", "3", "10"]


def test_what_a_training_took_has_a_table_of_its_own(tmp_path: Path) -> None:
    results, _, rest = written(write_sweep(tmp_path, methods=TWO)).partition("<h3>Cost</h3>")
    cost = rest.partition("</table>")[0]
    for title, inside in (("accuracy %, last epoch", results), ("ms a step", cost), ("minutes of training", cost)):
        assert f'<th scope="col">{title}</th>' in inside
        assert f'<th scope="col">{title}</th>' not in (cost if inside is results else results)
    assert "best" not in cost
    assert cost.count("<tr>") == 4


def test_nothing_from_runs_becomes_markup(tmp_path: Path) -> None:
    page = written(write_sweep(tmp_path, methods=TWO, seeds=1, hostile=HOSTILE), "--title", HOSTILE, "--note", HOSTILE)

    parsed = Elements(page)
    assert {tag for tag, _ in parsed.found}.isdisjoint({"script", "img", "link", "iframe", "object"})
    assert not [name for _, attributes in parsed.found for name in attributes if name.startswith("on")]
    assert str(escape(HOSTILE)) in page
    assert HOSTILE not in page


def test_the_page_needs_no_other_file(tmp_path: Path) -> None:
    parsed = Elements(written(write_sweep(tmp_path, methods=TWO)))
    assert not [1 for _, attributes in parsed.found if {"href", "src"} & set(attributes)]


def test_a_resumed_run_has_one_curve(tmp_path: Path) -> None:
    logs = {
        10: "9,3.0,5\n19,4.0\n19,\nx,7\n29,nan\n",
        9: "0,1.0\n9,2.0\n",
    }  # written in any order: copies keep no times
    for version, rows in logs.items():
        path = tmp_path / "csv" / f"version_{version}" / "metrics.csv"
        path.parent.mkdir(parents=True)
        path.write_text("step,train/loss\n" + rows)
    assert read_log(tmp_path, "train/loss").to_dict() == {0: 1.0, 9: 3.0, 19: 4.0}


def test_a_curve_is_the_mean_and_range_at_the_steps_of_all_runs(tmp_path: Path) -> None:
    for seed, rows in enumerate(("0,1.0\n10,2.0\n", "0,3.0\n5,9.0\n10,6.0\n")):
        path = tmp_path / str(seed) / "csv" / "version_0" / "metrics.csv"
        path.parent.mkdir(parents=True)
        path.write_text("step,train/loss\n" + rows)
    found = curve([str(tmp_path / name) for name in ("0", "1", "without a log")], "train/loss")
    assert found.to_dict("index") == {
        0: {"mean": 2.0, "min": 1.0, "max": 3.0},
        100: {"mean": 4.0, "min": 2.0, "max": 6.0},
    }


@pytest.mark.parametrize("content", ["", "step,train/loss\n", "epoch\n1\n"])
def test_a_log_without_numbers_is_no_curve(tmp_path: Path, content: str) -> None:
    path = tmp_path / "csv" / "version_0" / "metrics.csv"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    assert read_log(tmp_path, "train/loss").empty
    assert curve([str(tmp_path)], "train/loss").empty


def test_the_page_lies_beside_the_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_sweep(tmp_path / "runs", methods=TWO, seeds=1)
    report(["html", str(folder)])
    assert capsys.readouterr().out == f"{folder / 'report.html'}\n"
    assert (folder / "report.html").exists()


def test_evaluations_that_do_not_compare_are_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_sweep(tmp_path, methods=TWO) / "plain-batch" / "0" / "evaluation.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"settings": {"epsilon": 0.5}}))
    with pytest.raises(SystemExit):
        written(tmp_path)
    assert "expected evaluations with the same settings" in capsys.readouterr().err


def test_evaluations_of_an_earlier_training_do_not_count(tmp_path: Path) -> None:
    path = write_sweep(tmp_path, methods=("plain",), seeds=1) / "plain-batch" / "0" / "metrics.json"
    os.utime(path)  # a copy keeps no times
    assert "corrupted accuracy %" in written(tmp_path)
    for run in tmp_path.glob("*/0/metrics.json"):
        run.write_text(json.dumps(json.loads(run.read_text()) | {"fit_seconds": 1.0}))
    assert "corrupted accuracy %" not in written(tmp_path)


def test_runs_that_are_not_finished_are_named(tmp_path: Path) -> None:
    (write_run(tmp_path / "half", method="kd") / "metrics.json").unlink()
    write_run(tmp_path / "whole", method="kd")
    assert "half: no metrics.json: stopped, or still running." in Elements(written(tmp_path)).text


@pytest.fixture
def browse(tmp_path: Path) -> Callable[..., str]:
    """Show a page in Chromium, without a network; give what it printed."""
    if not CHROMIUM.exists():
        pytest.skip(f"needs {CHROMIUM}: apt-get install chromium")

    def run(page: Path, *options: str) -> str:
        profile = tmp_path / "profile"
        shutil.rmtree(profile, ignore_errors=True)
        command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}", *options, page.as_uri()]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout

    return run


@pytest.mark.slow
def test_a_browser_runs_nothing_of_a_hostile_page(tmp_path: Path, browse: Callable[..., str]) -> None:
    written(write_sweep(tmp_path / "runs", methods=TWO, seeds=1, hostile=HOSTILE), "--title", HOSTILE)
    page = browse(tmp_path / "runs" / "report.html", "--dump-dom")
    assert "<title>owned" not in page
    assert "<script" not in page
    assert page.count("<table") == 2


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 500])  # Chromium's windows are no narrower than 500
def test_a_browser_lays_the_page_out_within_its_window(width: int, tmp_path: Path, browse: Callable[..., str]) -> None:
    text = written(write_sweep(tmp_path / "runs"))
    probe = tmp_path / "probe.html"  # the page, less its ban on scripts, and one that measures it
    ban = re.search(r"<meta http-equiv=.*?>", text)
    assert ban is not None
    script = "<script>document.body.dataset.wide = document.documentElement.scrollWidth > innerWidth</script>"
    probe.write_text(text.replace(ban[0], "").replace("</body>", f"{script}</body>"), encoding="utf-8")

    assert 'data-wide="false"' in browse(probe, f"--window-size={width},2000", "--dump-dom")

    shot = tmp_path / "shot.png"
    browse(tmp_path / "runs" / "report.html", f"--window-size={width},2000", f"--screenshot={shot}")
    with Image.open(shot) as picture:
        assert picture.width == width
        colours = picture.convert("RGB").getcolors(2**20)
    assert colours is not None
    assert {(255, 255, 255), (0, 114, 178)} <= {colour for _, colour in colours}
