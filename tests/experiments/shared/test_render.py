"""The formats of a report: what is written, and that text stays text."""

import html
import re

import hypothesis.strategies as st
import pytest
from hypothesis import example, given
from markdown_it import MarkdownIt

from supermix_pl.experiments.shared import render
from supermix_pl.experiments.shared.render import Heading, Notes, Part, Table

NASTY = r"a|b <i>x</i> \cmd {y} 5 % & $m_1$ _em_ *em* `code` # ~ ^ [1]"
TEXT = st.text(r" |\`*_<>&$%#{}[]~^'" + '"-+=.:0a1é±', min_size=1, max_size=20).filter(lambda text: text.strip() != "")
PARTS: list[Part] = [
    Heading(text="Table 2", level=1),
    Notes(lines=("*: above", NASTY)),
    Heading(text="Budget"),
    Table(
        title="Cells",
        columns=("pair", "method", "paper", "last - paper"),
        rows=[("a", "kd", "76.20*", "-1.25"), ("", "kd_<x>", "-", "+0.10"), ("b", "crd", "70.00", "-")],
        names=2,
    ),
]


def test_markdown() -> None:
    assert (
        render.markdown([PARTS[0], Notes(lines=("*: above",)), *PARTS[2:]])
        == r"""# Table 2

- \*: above

## Budget

### Cells

| pair | method | paper | last - paper |
| --- | --- | ---: | ---: |
| a | kd | 76.20\* | -1.25 |
|  | kd\_\<x> | - | +0.10 |
| b | crd | 70.00 | - |
"""
    )


@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3))
def test_markdown_cells_are_read_as_they_were_written(rows: list[tuple[str, str]]) -> None:
    grid = Table(title="t", columns=("a", "b"), rows=rows)
    page = MarkdownIt("commonmark").enable("table").render(render.markdown([grid]))
    cells = [html.unescape(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", page)]
    assert cells == [" ".join(cell.split()) for row in rows for cell in row]


@given(TEXT)
@example("[0]:0")  # a link's definition
def test_markdown_remarks_are_read_as_they_were_written(text: str) -> None:
    page = MarkdownIt("commonmark").render(render.markdown([Notes(lines=(text,))]))
    assert html.unescape(page) == f"<ul>\n<li>{' '.join(text.split())}</li>\n</ul>\n"


def test_the_terminal_shows_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    render.show([*PARTS, Notes(lines=("[bold]x[/bold]",))])
    text = capsys.readouterr().out
    assert "[bold]x[/bold]" in text
    assert NASTY in text
    assert "kd_<x>" in text
