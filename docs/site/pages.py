"""The pages of the site, made of those in docs/: `build.py` builds it from them.

Pages in docs/ link to files beside docs/ (`../README.md`, `../configs/pocket.yaml`), as a reader of the repository
needs it. A site has only what lies in its own folder, so those files become pages of it: Markdown as it is, everything
else as code, a folder as a list. Notebooks become Markdown with their outputs, and each room of the package gets a
page of its public names.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from public_names import ROOMS, homes

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
COPIED = (".png", ".svg", ".css", ".js")
LANGUAGES = {".yaml": "yaml", ".py": "python", ".sh": "bash"}

LINK = re.compile(r"(`[^`]*`)|(\]\()([^)\s#:]+)(?=[#)])")
"""Code, which is left alone, or a link's path. An address with a scheme has a colon and doesn't match."""

ITEM = re.compile(r" *(?:[-*+]|\d+\.) +")
"""The beginning of an item of a list."""


def page_of(path: Path) -> str:
    """Where a file or folder of the repository stands in the site."""
    if path.is_relative_to(DOCS) and path.suffix in (*COPIED, ".md", ".ipynb"):
        name = path.relative_to(DOCS).as_posix()
        return name.removesuffix(".ipynb") + ".md" if path.suffix == ".ipynb" else name
    name = f"repository/{path.relative_to(ROOT).as_posix()}"
    return name if path.suffix == ".md" else f"{name}.md"


def rewritten(text: str, source: Path, linked: set[Path]) -> str:
    """A page's text with its links as the site needs them; the files that they lead to are added to ``linked``."""
    folder = posixpath.dirname(page_of(source))

    def replaced(match: re.Match[str]) -> str:
        target = match[1] or (source.parent / match[3]).resolve()
        if isinstance(target, str) or not target.exists():
            return match[0]  # code; or a link that leads nowhere, as the build will say
        target = target / "README.md" if (target / "README.md").exists() else target
        linked.add(target)
        return match[2] + posixpath.relpath(page_of(target), folder)

    fenced, lines = False, []
    for line in text.splitlines():
        fence = line.lstrip().startswith("```")
        lines.append(line if fenced or fence else LINK.sub(replaced, line))
        fenced ^= fence
    return "\n".join(deepened(lines)) + "\n"


def deepened(lines: list[str]) -> Iterator[str]:
    """Lines with lists as Python-Markdown wants them: what belongs to an item is indented by four columns a level.

    On GitHub it suffices that it begins where the item's own text does, and that a list follows a paragraph's line.
    """
    columns: list[int] = []  # where the text of each open item begins
    fenced, before = False, ""
    for line in lines:
        in_list = bool(columns)
        if line and not fenced:
            columns = [column for column in columns if column <= len(line) - len(line.lstrip())]
        item = None if fenced else ITEM.match(line)
        if item and before and not in_list:
            yield ""
        yield " " * (4 * len(columns) - (columns[-1] if columns else 0)) + line if line else line
        if item:
            columns.append(item.end())
        fenced ^= line.lstrip().startswith("```")
        before = line


def as_page(path: Path, linked: set[Path]) -> str:
    """A file or folder of the repository as a page."""
    name = path.relative_to(ROOT).as_posix()
    if path.is_dir():
        inside = sorted(each.name for each in path.iterdir() if each.suffix in (*LANGUAGES, ".md", ".csv"))
        return f"# {name}\n\n" + rewritten(
            "\n".join(f"- [{each}]({path.name}/{each})" for each in inside), path, linked
        )
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return rewritten(text, path, linked)
    return f"# {name}\n\n````{LANGUAGES.get(path.suffix, 'text')}\n{text.rstrip()}\n````\n"


def written_pages() -> Iterator[tuple[str, str]]:
    """Every page in docs/, and every file of the repository that one leads to."""
    waiting, done = sorted(DOCS.rglob("*.md")), set()
    while waiting:
        path = waiting.pop()
        if path not in done and path.suffix not in (*COPIED, ".ipynb"):
            done.add(path)
            linked: set[Path] = set()
            yield page_of(path), as_page(path, linked)
            waiting += linked


def notebook_pages() -> Iterator[tuple[str, str | bytes]]:
    """Each notebook as Markdown with its outputs, and the pictures among these."""
    import nbformat
    from nbconvert import MarkdownExporter

    exporter = MarkdownExporter()
    for path in sorted((DOCS / "notebooks").glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        notebook.metadata.language_info = {"name": "python"}  # for the colours of its code
        files = {"output_files_dir": f"{path.stem}_files", "unique_key": path.stem}
        text, resources = exporter.from_notebook_node(notebook, resources=files)
        linked: set[Path] = set()
        yield page_of(path), rewritten(text, path, linked)
        yield from ((f"notebooks/{name}", content) for name, content in resources["outputs"].items())


def api_pages() -> Iterator[tuple[str, str]]:
    """A page for each room of the package, of its public names; and one that lists these pages."""
    rows = ""
    for room, purpose in ROOMS.items():
        page = room.removeprefix("isthmus.").replace(".", "_") + ".md"
        directives = "\n\n".join(f"::: {room}.{name}" for name in homes(room))
        yield f"api/{page}", f"# {room}\n\n{purpose}\n\n{directives}\n"
        rows += f"| [{room}]({page}) | {purpose} | {', '.join(homes(room))} |\n"
    head = "# API reference\n\nPublic names, from the docstrings in the code.\n\n"
    yield "api/index.md", f"{head}| room | what for | names |\n|---|---|---|\n{rows}"


def prepare(folder: Path) -> list[str]:
    """Writes all pages into a folder and returns their names; what has not changed isn't written again."""
    copied = [(page_of(path), path.read_bytes()) for path in sorted(DOCS.rglob("*")) if path.suffix in COPIED]
    pages = {**dict(written_pages()), **dict(notebook_pages()), **dict(api_pages()), **dict(copied)}
    for name, content in pages.items():
        target, data = folder / name, content if isinstance(content, bytes) else content.encode()
        if not target.is_file() or target.read_bytes() != data:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
    for path in folder.rglob("*"):
        if path.is_file() and path.relative_to(folder).as_posix() not in pages:
            path.unlink()
    return sorted(name for name in pages if name.endswith(".md"))
