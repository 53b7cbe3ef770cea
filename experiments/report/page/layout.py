"""The page itself. All text that comes from runs is escaped; there are no scripts and no links to other files."""

import html
from collections.abc import Sequence

from supermix_pl.experiments.report.page.example_mixes import ExampleMixes
from supermix_pl.experiments.shared.palette import BLUE

_STYLE = """
:root { color-scheme: light; --line: #c8c8c8; --faint: #f3f5f7; --quiet: #555; --mark: BLUE; }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; color: #111; background: #fff; margin: 1.5rem auto; max-width: 78rem;
  padding: 0 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 2px solid var(--mark); }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { padding: .3rem .45rem; text-align: right; white-space: nowrap; }
thead th { border-block: 1px solid var(--line); vertical-align: bottom; white-space: normal; min-width: 4.6rem;
  font-weight: 600; }
tbody tr:nth-child(even) > * { background: var(--faint); } tbody { border-bottom: 1px solid var(--line); }
.name { text-align: left; overflow-wrap: break-word; position: sticky; left: 0; background: #fff; font-weight: 500; }
tbody .name { max-width: 15rem; white-space: normal; min-width: 10.5rem; }
.best { font-weight: 700; }
svg { display: block; } svg text { font: 11px system-ui, sans-serif; fill: #333; }
.rule { stroke: var(--line); fill: none; } .span circle { fill: var(--mark); } .span path { stroke: var(--mark); }
.span .rule { stroke: var(--line); }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 21rem), 1fr)); gap: 1rem; }
figure { margin: 0; } figcaption { font-weight: 600; }
.keys { list-style: none; padding: 0; margin: 0; font-size: .9rem; } .keys li { display: flex; gap: .5rem;
  align-items: center; } .swatch { flex: none; }
.set { display: flex; gap: .6rem; margin: .6rem 0; } .set figure { width: 104px; flex: none; }
.set img { width: 96px; height: 96px; object-fit: contain; image-rendering: pixelated; border: 1px solid var(--line); }
.set figcaption, .pictures figcaption { font-weight: 400; font-size: .8rem; line-height: 1.3; }
.pictures img { max-width: 100%; }
code { font: 12.5px/1.7 ui-monospace, monospace; background: var(--faint); padding: .1rem .3rem; border-radius: 3px; }
summary { cursor: pointer; margin: .4rem 0; } dt { font-weight: 600; } dd { margin: 0 0 .5rem 1rem; }
.quiet { color: var(--quiet); font-size: .9rem; }
@media (max-width: 600px) {
  body { margin-top: .5rem; padding: 0 .7rem; }
  th, td { padding: .3rem .4rem; } tbody .name { max-width: 10rem; min-width: 10rem; }
  h1 { font-size: 1.35rem; } h2 { font-size: 1.15rem; }
}
""".replace("BLUE", BLUE)


def page(title: str, chapters: Sequence[str]) -> str:
    """Put finished chapters, which are HTML, into a page.

    Args:
        title: As plain text.
        chapters: As HTML.
    """
    name = html.escape(title)
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            (
                '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
                "style-src 'unsafe-inline'\">"
            ),
            f"<title>{name}</title><style>{_STYLE}</style></head><body><h1>{name}</h1>",
            *chapters,
            "</body></html>\n",
        ]
    )


def notes(lines: Sequence[str]) -> str:
    """Write remarks, which are plain text, as a list."""
    return f"<ul class=quiet>{''.join(f'<li>{html.escape(line)}</li>' for line in lines)}</ul>"


def mixes(found: Sequence[ExampleMixes]) -> str:
    """Write the example mixes; empty without any."""
    parts = []
    for each in found:
        parts.append(f"<h3>{html.escape(each.mixer)}</h3>")
        if each.problem:
            parts.append(f"<p class=quiet>None could be made: {html.escape(each.problem)}</p>")
        for row in each.rows:
            tiles = []
            for tile in row:
                lines = "<br>".join(html.escape(line) for line in tile.lines)
                alt = html.escape(", ".join(tile.lines), quote=True)
                tiles.append(f'<figure><img src="{tile.picture}" alt="{alt}"><figcaption>{lines}</figcaption></figure>')
            parts.append(f"<div class=wide><div class=set>{''.join(tiles)}</div></div>")
    if not parts:
        return ""
    lines = [
        "Made for this page from the sweep's own data, teacher and mixers; the same images for all.",
        "A set a row: sources with their classes, masks with their weights (white: shown), the mix.",
        "Under the mix: the classes that are likeliest to the teacher, with their probabilities.",
    ]
    return "".join(["<h2>Example mixes</h2>", notes(lines), *parts])


def pictures(found: Sequence[tuple[str, str]]) -> str:
    """Write pictures that runs left behind, each a caption and a data URI; empty without any."""
    figures = [
        f'<figure><img src="{uri}" alt="{html.escape(caption, quote=True)}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        for caption, uri in found
    ]
    return f"<h2>Pictures that the runs left</h2><div class=pictures>{''.join(figures)}</div>" if figures else ""
