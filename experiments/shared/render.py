"""Writing a report as Markdown, LaTeX, HTML, or for a terminal."""

import html
import re
from collections.abc import Callable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from supermix_pl.experiments.shared.table import Heading, Notes, Part, Row, Table

_STYLE = """
:root { color-scheme: light dark; --line: #8886; --faint: #8882; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 90rem; padding: 0 1rem; }
.wide { overflow-x: auto; margin: 1.5rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding-bottom: .4rem; }
th, td { padding: .25rem .8rem; text-align: right; white-space: nowrap; }
.name { text-align: left; }
thead th { border-block: 1px solid var(--line); }
tbody { border-bottom: 1px solid var(--line); }
tbody tr:hover { background: var(--faint); }
li { max-width: 60rem; overflow-wrap: anywhere; }
"""
_LATEX = {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    "'": r"\textquotesingle{}",
    "±": r"$\pm$",
    "[": "{[}",
    "]": "{]}",
    **{character: rf"\{character}" for character in "&%$#_{}"},
}


def markdown(parts: Sequence[Part]) -> str:
    """Write GitHub's Markdown."""
    blocks = []
    for part in parts:
        if isinstance(part, Heading):
            blocks.append("#" * part.level + f" {escape_markdown(part.text)}")
        elif isinstance(part, Notes):
            blocks.append("\n".join(f"- {_item(line)}" for line in part.lines))
        else:
            rule = tuple("---" if position < part.names else "---:" for position in range(len(part.columns)))
            rows = [row for section in part.sections for row in section]
            lines = [
                "| " + " | ".join(cells) + " |"
                for cells in (_cells(part.columns, escape_markdown), rule, *(_cells(r, escape_markdown) for r in rows))
            ]
            blocks.append(f"### {escape_markdown(part.title)}\n\n" + "\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def latex(parts: Sequence[Part]) -> str:
    """Write the inside of a LaTeX document, with booktabs' rules; tables that are too wide shrink to the line.

    As tables float, their captions repeat the titles that they stand under.
    """
    blocks = [r"% needs \usepackage[T1]{fontenc} and \usepackage{booktabs,graphicx,textcomp}"]
    titles: list[str] = []
    for part in parts:
        if isinstance(part, Heading):
            titles = [*titles[: part.level - 1], part.text]
            blocks.append(rf"\{'sub' * (part.level - 1)}section*{{{escape_latex(part.text)}}}")
        elif isinstance(part, Notes):
            items = [rf"  \item {escape_latex(line)}" for line in part.lines]
            blocks.append("\n".join([r"\begin{itemize}", *items, r"\end{itemize}"]))
        else:
            blocks.append(_latex_table(part, ". ".join([*titles, part.title]) + "."))
    return "\n\n".join(blocks) + "\n"


def html_page(parts: Sequence[Part]) -> str:
    """Write a page that needs no other file."""
    title = next((part.text for part in parts if isinstance(part, Heading)), "Report")
    lines = ["<!doctype html>", '<html lang="en">', "<head>", '<meta charset="utf-8">']
    lines += ['<meta name="viewport" content="width=device-width, initial-scale=1">']
    lines += [f"<title>{html.escape(title)}</title>", f"<style>{_STYLE}</style>", "</head>", "<body>"]
    for part in parts:
        if isinstance(part, Heading):
            lines.append(f"<h{part.level}>{html.escape(part.text)}</h{part.level}>")
        elif isinstance(part, Notes):
            lines += ["<ul>", *(f"<li>{html.escape(line)}</li>" for line in part.lines), "</ul>"]
        else:
            lines += _html_table(part)
    return "\n".join([*lines, "</body>", "</html>"]) + "\n"


def terminal(parts: Sequence[Part]) -> RenderableType:
    """Lay it out for a terminal."""
    return Group(*(_for_terminal(part) for part in parts))


def escape_markdown(text: str) -> str:
    """Keep text from being markup."""
    escaped = re.sub(r"([\\`*|<&$])", r"\\\1", " ".join(text.split()))
    return re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", escaped)


def escape_latex(text: str) -> str:
    """Keep text from being commands; stars are raised and minus signs long."""
    escaped = "".join(_LATEX.get(character, character) for character in " ".join(text.split()))
    escaped = re.sub(r"(?<=\d)\*", "$^{*}$", escaped.replace("--", "-{}-"))
    return re.sub(r"(^|\s)-(?=\d)", r"\1$-$", escaped)


def _cells(row: Row, escape: Callable[[str], str]) -> Row:
    return tuple(map(escape, row))


def _item(text: str) -> str:
    """Keep a remark from starting a heading, a quotation or another list."""
    return re.sub(r"^(\d+(?=[.)])|(?=[#+\->~=]))", r"\1\\", escape_markdown(text))


def _latex_table(grid: Table, caption: str) -> str:
    rows = [[" & ".join(_cells(row, escape_latex)) + r" \\" for row in section] for section in grid.sections]
    body = [line for number, section in enumerate(rows) for line in ([r"\midrule"] if number else []) + section]
    alignment = "l" * grid.names + "r" * (len(grid.columns) - grid.names)
    lines = [
        r"\begin{table}[htbp]",
        r"\centering",
        rf"\caption{{{escape_latex(caption)}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{{alignment}}}",
        r"\toprule",
        " & ".join(_cells(grid.columns, escape_latex)) + r" \\",
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}}",
        r"\end{table}",
    ]
    return "\n".join(lines)


def _html_table(grid: Table) -> list[str]:
    def line(row: Row, tag: str) -> str:
        kinds = [' class="name"' if position < grid.names else "" for position in range(len(row))]
        cells = zip(kinds, _cells(row, html.escape), strict=True)
        return "<tr>" + "".join(f"<{tag}{kind}>{cell}</{tag}>" for kind, cell in cells) + "</tr>"

    lines = ['<div class="wide"><table>', f"<caption>{html.escape(grid.title)}</caption>"]
    lines += [f"<thead>{line(grid.columns, 'th')}</thead>"]
    for section in grid.sections:
        lines += ["<tbody>", *(line(row, "td") for row in section), "</tbody>"]
    return [*lines, "</table></div>"]


def _for_terminal(part: Part) -> RenderableType:
    if isinstance(part, Heading):
        return Text(f"{part.text}\n", style="bold underline" if part.level == 1 else "bold")
    if isinstance(part, Notes):
        return Text("".join(f"• {line}\n" for line in part.lines))
    table = RichTable(title=Text(part.title), title_justify="left", title_style="italic")
    for position, column in enumerate(part.columns):
        left = position < part.names
        table.add_column(Text(column), justify="left" if left else "right", overflow="fold")
    for section in part.sections:
        for row in section:
            table.add_row(*map(Text, row))
        table.add_section()
    return Group(table, "")
