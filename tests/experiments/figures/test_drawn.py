"""Figure 4: what is in them, and that nothing is cut off or overlaps."""

import itertools
from pathlib import Path

import pytest
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from supermix_pl.experiments.figures import comparison
from supermix_pl.experiments.figures.comparison import chosen_images
from supermix_pl.experiments.figures.style import Drawn, save
from tests.experiments.figures.figures_toys import subject


def drawn() -> Drawn:
    return comparison.draw(subject(), [2, 3])


def visible(figure: Figure) -> list[Text]:
    return [text for text in figure.findobj(Text) if isinstance(text, Text) and text.get_text() and text.get_visible()]


def test_no_text_is_cut_off_or_covers_another() -> None:
    figure = drawn().figure
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
    found = drawn()
    assert [(row["k"], row["method"]) for row in found.numbers] == [
        (k, name) for k in (2, 3) for name in ("SuperMix", "CutMix", "MixUp")
    ]
    words = [text.get_text() for text in visible(found.figure)]
    for row in found.numbers:
        assert f"{row['in_top_k']} of {row['k']} in top {row['k']}" in words
    assert words.count("red") == 2  # a long name is cut, the same source stands in both blocks
    assert r"gr\$een" in words


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


def test_png_and_pdf_are_written(tmp_path: Path) -> None:
    figure = Figure(figsize=(2, 1))
    png, pdf = save(figure, tmp_path / "new" / "picture.v2")
    assert (png.name, pdf.name) == ("picture.v2.png", "picture.v2.pdf")
    assert save(figure, tmp_path / "other.pdf") == [tmp_path / "other.png", tmp_path / "other.pdf"]
    with Image.open(png) as picture:
        assert picture.width == 260
    assert pdf.read_bytes().startswith(b"%PDF")
