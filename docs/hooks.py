"""What the site has from outside docs/: measured evidence and example scripts, at the places that pages link to.

A page links to `../experiments/results/FILE` or `../examples/FILE`, which also works where the repository is read as it
is. Here these files become pages of the site, so that `mkdocs build --strict` finds every link that is dead.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files, InclusionLevel

_ROOT = Path(__file__).parents[1]
_KINDS = (".md", ".png", ".csv")
_LINK = re.compile(r"(?<=\]\()([^)\s#]+)")


def on_files(files: Files, config: Any) -> Files:
    """Add results as they are, and examples as pages that show their code."""
    for path in sorted((_ROOT / "experiments" / "results").rglob("*")):
        if path.suffix in _KINDS:
            files.append(_generated(config, path, str(path.relative_to(_ROOT)), abs_src_path=str(path)))
    for path in sorted((_ROOT / "examples").glob("*.*")):
        language = path.suffix.removeprefix(".").replace("py", "python")
        shown = f"# {path.name}\n\n```{language}\n{path.read_text()}```\n"
        files.append(_generated(config, path, f"examples/{path.name}.md", content=shown))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Bring links to these files to their places in the site, and keep these pages out of the search."""
    if page.file.src_uri.startswith(("experiments/", "examples/")):
        page.meta |= {"search": {"exclude": True}, "hide": ["toc"]}
        folder = _ROOT / Path(page.file.src_uri).parent
        return _LINK.sub(lambda link: _index_of(folder, link[1]), markdown)
    return _LINK.sub(lambda link: _in_site(link[1]), markdown)


def _generated(config: Any, path: Path, uri: str, **source: str) -> File:
    return File.generated(config, uri, inclusion=InclusionLevel.NOT_IN_NAV, **source)


def _in_site(link: str) -> str:
    """The pages of the guide lie in docs/ itself, so that one step up leads out of it."""
    if link.startswith("../examples/"):
        return f"{link.removeprefix('../')}.md"
    return link.removeprefix("../") if link.startswith("../experiments/results/") else link


def _index_of(folder: Path, link: str) -> str:
    """A link to a folder is one to its README."""
    return f"{link}/README.md" if (folder / link / "README.md").is_file() else link
