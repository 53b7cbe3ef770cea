"""The figures of a teacher and data: what is in them, and that nothing is cut off or overlaps."""

import argparse
import dataclasses
import itertools
from pathlib import Path

import pytest
import torch
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from supermix_pl.experiments.figures import activation, command
from supermix_pl.experiments.figures.command import FIGURES, OfSubject
from supermix_pl.experiments.figures.sets import chosen_images
from supermix_pl.experiments.figures.style import Drawn, save
from supermix_pl.experiments.shared.subject import Subject
from tests.experiments.figures.figures_toys import subject, teacher

ARGUMENTS = {
    "figure3": ["--sigma", "0,1", "--lambda-s", "0,25,50"],
    "figure4": ["--k", "2,3", "--no-cam"],
    "figure6": ["--per-class", "4"],
    "figure7": [],
}


def drawn(name: str, arguments: list[str] | None = None, of: Subject | None = None) -> Drawn:
    figure = FIGURES[name]
    assert isinstance(figure, OfSubject)
    parser = argparse.ArgumentParser()
    figure.add_arguments(parser)
    return figure.draw(of or subject(), parser.parse_args(ARGUMENTS[name] if arguments is None else arguments))


def visible(figure: Figure) -> list[Text]:
    return [text for text in figure.findobj(Text) if isinstance(text, Text) and text.get_text() and text.get_visible()]


@pytest.mark.parametrize(
    "name", ["figure7", *(pytest.param(name, marks=pytest.mark.slow) for name in ARGUMENTS if name != "figure7")]
)
def test_no_text_is_cut_off_or_covers_another(name: str) -> None:
    figure = drawn(name).figure
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    hidden = {id(text) for axes in figure.axes if not axes.axison for text in axes.findobj(Text)}
    hidden |= {id(text) for axis in figure.findobj(Axis) for text in axis.get_ticklabels()}  # also beyond the limits
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in visible(figure) if id(text) not in hidden]
    width, height = figure.bbox.width, figure.bbox.height
    cut = [text for text, box in boxes if box.x0 < -1 or box.y0 < -1 or box.x1 > width + 1 or box.y1 > height + 1]
    assert not cut
    covered = [
        (first, second)
        for (first, a), (second, b) in itertools.combinations(boxes, 2)
        if min(a.x1, b.x1) - max(a.x0, b.x0) > 2 and min(a.y1, b.y1) - max(a.y0, b.y0) > 2
    ]
    assert not covered


def test_figure4_says_how_many_classes_are_seen() -> None:
    found = drawn("figure4")
    assert [(row["k"], row["method"]) for row in found.numbers] == [
        (k, name) for k in (2, 3) for name in ("SuperMix", "CutMix", "MixUp")
    ]
    words = [text.get_text() for text in visible(found.figure)]
    for row in found.numbers:
        assert f"{row['in_top_k']} of {row['k']} in top {row['k']}" in words
    assert words.count("red") == 2  # a long name is cut, the same source stands in both blocks
    assert r"gr\$een" in words


def test_figure3_covers_the_grid() -> None:
    numbers = drawn("figure3").numbers
    assert [(row["sigma"], row["lambda_s"]) for row in numbers] == [(s, w) for s in (0, 1) for w in (0, 25, 50)]
    assert all(0 <= row["mask_softness"] <= 0.25 for row in numbers)


def test_figure7_averages_sorted_probabilities() -> None:
    rows = {row["method"]: row["mean_sorted_probabilities"] for row in drawn("figure7").numbers}
    toys = subject()
    natural = toys.teacher(toys.images).softmax(1).sort(descending=True).values.double().mean(0)
    torch.testing.assert_close(torch.tensor(rows["natural"]).double(), natural)
    assert list(rows) == ["natural", "SuperMix", "CutMix", "MixUp"]
    for values in rows.values():
        assert values == sorted(values, reverse=True)
        assert sum(values) == pytest.approx(1)  # there are three classes


def test_figure6_counts_what_it_shows() -> None:
    rows = {row["method"]: row for row in drawn("figure6").numbers}
    assert rows["natural"]["images"] == [4, 4, 4]
    assert all(row["class_spread"] > 0 for row in rows.values())


@pytest.mark.parametrize("name", ["figure6", "figure7"])
def test_external_images_stand_beside_the_mixes(name: str) -> None:
    toys = subject()
    found = drawn(name, of=dataclasses.replace(toys, external=toys.images[:7]))
    rows = {row["method"]: row for row in found.numbers}
    assert list(rows) == ["natural", "SuperMix", "CutMix", "MixUp", "external"]
    assert any("external: 7 other images" in " ".join(text.get_text().split()) for text in visible(found.figure))
    if name == "figure6":
        assert rows["external"]["images"] == [3, 2, 2]


def test_sets_hold_different_classes_that_are_recognised() -> None:
    toys = subject()
    images = chosen_images(toys, 3, 2)
    classes = toys.teacher(images).argmax(1).tolist()
    assert sorted(classes[:3]) == sorted(classes[3:]) == [0, 1, 2]
    assert len({tuple(image.flatten().tolist()) for image in images}) == 6
    with pytest.raises(ValueError, match="12 images that the teacher recognises of 12; give a better teacher"):
        chosen_images(toys, 3, 5)
    with pytest.raises(ValueError, match="k >= 2"):
        chosen_images(toys, 1, 1)


def test_activation_maps_are_those_of_the_class() -> None:
    toys = subject(3)
    maps = activation.class_activation(teacher(), toys.images, torch.tensor([0, 0, 2]))
    for image, seen, label in zip(toys.images, maps, (0, 0, 2), strict=True):
        torch.testing.assert_close(seen, image[label] / image[label].max())


def test_activation_maps_need_a_network_with_maps() -> None:
    flat = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 3))
    with pytest.raises(ValueError, match="Sequential without any; use --no-cam"):
        activation.class_activation(type(teacher())(flat), subject(2).images, torch.tensor([0, 1]))


def test_figure4_with_activation_maps() -> None:
    figure = drawn("figure4", ["--k", "2"]).figure
    assert "class 2" in [text.get_text() for text in visible(figure)]


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torchcam.methods", None)
    with pytest.raises(ImportError, match=r'pip install "supermix_pl\[figures\]"; --no-cam'):
        drawn("figure4", ["--k", "2"])


def test_png_and_pdf_are_written(tmp_path: Path) -> None:
    figure = Figure(figsize=(2, 1))
    png, pdf = save(figure, tmp_path / "new" / "picture.v2")
    assert (png.name, pdf.name) == ("picture.v2.png", "picture.v2.pdf")
    assert save(figure, tmp_path / "other.pdf") == [tmp_path / "other.png", tmp_path / "other.pdf"]
    with Image.open(png) as picture:
        assert picture.width == 260
    assert pdf.read_bytes().startswith(b"%PDF")


def test_unknown_figures_are_refused() -> None:
    with pytest.raises(SystemExit, match=r"expected a figure of figure3, figure4.*got 'figure2'"):
        command.main(["figure2"], lambda *_, **__: subject())
