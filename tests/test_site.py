"""The documentation's site: every page is in its navigation, links lead to pages, nothing comes from a network."""

from __future__ import annotations

import ast
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = ("public_names", "docstrings", "pages", "build")


@pytest.fixture(scope="module")
def site() -> Iterator[SimpleNamespace]:
    """The modules that make the site, which import each other by bare names."""
    sys.path.insert(0, str(ROOT / "docs" / "site"))
    hidden = {name: sys.modules.pop(name) for name in MODULES if name in sys.modules}
    try:
        loaded: dict[str, ModuleType] = {name: importlib.import_module(name) for name in MODULES}
        yield SimpleNamespace(**loaded)
    finally:
        sys.path.remove(str(ROOT / "docs" / "site"))
        for name in MODULES:
            sys.modules.pop(name, None)
        sys.modules.update(hidden)


@pytest.fixture(scope="module")
def prepared(site: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    folder = tmp_path_factory.mktemp("pages")
    (folder / "of_an_earlier_build.md").write_text("gone", encoding="utf-8")
    return folder, site.pages.prepare(folder)


def test_the_navigation_has_every_page(site: SimpleNamespace, prepared: tuple[Path, list[str]]) -> None:
    folder, pages = prepared
    assert not site.build.navigation_faults(pages)
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.md")) == pages
    assert {"index.md", "notebooks/matrix.md", "api/encoders.md", "repository/README.md"} <= set(pages)


def test_a_page_that_is_left_out_and_an_entry_without_a_page_are_named(
    site: SimpleNamespace, prepared: tuple[Path, list[str]]
) -> None:
    pages = [page for page in prepared[1] if page != "faq.md"] + ["new.md", "repository/configs/new.yaml.md"]
    assert site.build.navigation_faults(pages) == ["mkdocs.yml: nav lacks new.md", "mkdocs.yml: nav names faq.md"]


def test_links_out_of_docs_lead_to_pages_of_the_site(site: SimpleNamespace, prepared: tuple[Path, list[str]]) -> None:
    folder, pages = prepared
    assert "](repository/README.md#what-the-embedded-model-can-do)" in (folder / "index.md").read_text(encoding="utf-8")
    assert "](../repository/configs/experts/nextgpt.yaml.md)" in (folder / "parts/README.md").read_text(
        encoding="utf-8"
    )
    for page in pages:
        text = re.sub(r"^( *)(`{3,}).*?^\1\2$", "", (folder / page).read_text(encoding="utf-8"), flags=re.M | re.S)
        for path in re.findall(r"\]\(([^)\s:#]+)[#)]", re.sub(r"`[^`]*`", "", text)):
            assert (folder / page).parent.joinpath(path).is_file(), f"{page}: no {path}"


def test_what_belongs_to_an_item_is_indented_as_the_site_needs_it(site: SimpleNamespace) -> None:
    given = [
        "1. one",
        "",
        "   ```",
        "   code",
        "   ```",
        "",
        "2. two",
        "   - below",
        "     more",
        "",
        "after",
        "    code",
    ]
    wanted = ["1. one", "", "    ```", "    code", "    ```", "", "2. two", "    - below", "        more"]
    assert list(site.pages.deepened(given)) == [*wanted, "", "after", "    code"]


@pytest.mark.parametrize(
    "text",
    [
        '<script src="https://cdn.example/a.js"></script>',
        "<script defer src=//cdn.example/a.js></script>",
        '<link rel="stylesheet" href="https://fonts.example/css">',
        '<link href="https://fonts.example" rel="preconnect">',
        '<img alt="" src="http://example/a.png">',
        "<style>a{background:url('https://example/a.png')}</style>",
        '<style>@import "https://example/a.css";</style>',
    ],
)
def test_what_a_page_would_fetch_is_named(site: SimpleNamespace, tmp_path: Path, text: str) -> None:
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    (found,) = site.build.network_faults(tmp_path)
    assert found.startswith("page.html: ") and "//" in found


def test_links_that_a_reader_follows_are_no_fault(site: SimpleNamespace, tmp_path: Path) -> None:
    text = '<a href="https://example">x</a><link rel="canonical" href="https://x"><script src="a.js"></script>'
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    assert not site.build.network_faults(tmp_path)


def test_the_reference_has_what_each_room_exports(site: SimpleNamespace) -> None:
    for room in site.public_names.ROOMS:
        text = (ROOT / "src" / room.replace(".", "/") / "__init__.py").read_text(encoding="utf-8")
        assigned = {
            ast.unparse(node.targets[0]): node.value for node in ast.parse(text).body if isinstance(node, ast.Assign)
        }
        whole = assigned["__all__"] if isinstance(assigned["__all__"], ast.List) else assigned["_HOMES"]
        names = whole.elts if isinstance(whole, ast.List) else whole.keys
        exported = {name for name in map(ast.literal_eval, names) if not name.startswith("_")}
        assert set(site.public_names.homes(room)) == exported, room


def test_the_reference_has_what_pages_and_configs_name(site: SimpleNamespace) -> None:
    """The pocket world's parts are no interface: its own page has them."""
    named = re.compile(r"\bisthmus(?:\.[a-z_]+)+\.[A-Z]\w+")
    pages = [path for folder in ("docs", "configs") for path in (ROOT / folder).rglob("*.[my]*") if path.is_file()]
    found = {name for path in pages for name in named.findall(path.read_text(encoding="utf-8"))}
    rooms = {name for name in found if (ROOT / "src" / name.rpartition(".")[0].replace(".", "/")).is_dir()}
    known = site.public_names.addresses()
    assert len(rooms) > 50
    assert not {name for name in rooms if name not in known and not name.startswith("isthmus.pocket.")}


def test_docstrings_are_shown_as_markdown(site: SimpleNamespace) -> None:
    shown = site.docstrings.shown
    assert shown("As :class:`~isthmus.model.reply.Reply` has it.") == "As [`Reply`][isthmus.model.Reply] has it."
    assert shown("See :func:`isthmus.writing.write_folder`.") == "See `isthmus.writing.write_folder`."
    given = "Args:\n    height, width: of a picture,\n        in pixels.\n    seed: of it."
    each = "of a picture,\n        in pixels.\n"
    assert shown(given) == f"Args:\n    height: {each}    width: {each}    seed: of it."
    assert shown("So::\n\n    code") == "So:\n\n    code"


def test_the_code_beside_the_formulas_is_the_sources_own() -> None:
    text = (ROOT / "docs" / "formulas.md").read_text(encoding="utf-8")
    found = re.findall(r"\]\(\.\./(src/[\w/]+\.py)\)[^`]*`[\w.]+`[^`]*```python\n(.*?)```", text, re.S)
    assert len(found) == text.count("```python") == 7
    for path, block in found:
        own = {
            ast.unparse(node)
            for node in ast.walk(ast.parse((ROOT / path).read_text("utf-8")))
            if isinstance(node, ast.stmt)
        }
        gone = [ast.unparse(statement) for statement in ast.parse(block).body if ast.unparse(statement) not in own]
        assert not gone, f"{path} no longer has:\n{gone[0]}"
