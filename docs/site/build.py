"""Builds the documentation's site, and refuses it with a warning: `python docs/site/build.py [serve]`.

What must hold: every page is in the navigation, the site generator and the reader of docstrings have nothing to warn
of, and no page loads anything from a network.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pages import ROOT, prepare

PREPARED, SITE = ROOT / "build" / "docs", ROOT / "build" / "site"
GENERATOR = str(Path(sys.executable).with_name("zensical"))
LOADED = re.compile(
    r"""<(?:script|img|iframe|audio|video|source|embed)\b[^>]*\ssrc\s*=\s*["']?(?:https?:)?//[^"'\s>]+"""
    r"""|<link\b(?![^>]*rel=["']?canonical)[^>]*\shref\s*=\s*["']?(?:https?:)?//[^"'\s>]+"""
    r"""|url\(\s*["']?(?:https?:)?//[^"')]+|@import\s+["'](?:https?:)?//[^"']+""",
    re.IGNORECASE,
)
"""What a browser fetches by itself from another host; a link that a reader follows is no such thing."""


def in_navigation(entries: Any) -> Iterator[str]:
    """The pages that a navigation names, in order."""
    if isinstance(entries, str):
        yield entries
    else:
        for entry in entries.values() if isinstance(entries, dict) else entries:
            yield from in_navigation(entry)


def navigation_faults(pages: list[str]) -> list[str]:
    """Pages that the navigation lacks, and names in it without a page. Files that pages link to needn't be in it."""
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    named = list(in_navigation(config["nav"]))
    lacks = [page for page in pages if page not in named and not page.startswith("repository/")]
    gone = [page for page in named if page not in pages]
    return [f"mkdocs.yml: nav lacks {page}" for page in lacks] + [f"mkdocs.yml: nav names {page}" for page in gone]


def network_faults(folder: Path) -> list[str]:
    """What the site's pages and styles would fetch from other hosts."""
    found = [path for path in sorted(folder.rglob("*")) if path.suffix in (".html", ".css", ".svg")]
    texts = [(path, path.read_text(encoding="utf-8")) for path in found]
    return [f"{path.relative_to(folder)}: {match}" for path, text in texts for match in LOADED.findall(text)]


def build() -> list[str]:
    """Builds the site and returns what is wrong with it."""
    faults = navigation_faults(prepare(PREPARED))
    command = [GENERATOR, "build", "--clean", "--strict"]
    plain = {**os.environ, "NO_COLOR": "1"}
    done = subprocess.run(command, cwd=ROOT, env=plain, check=False, text=True, capture_output=True)
    said = done.stdout + done.stderr.partition("Traceback")[0]
    faults += [said] if done.returncode else [line for line in said.splitlines() if line.startswith("griffe:")]
    return faults + network_faults(SITE)


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        prepare(PREPARED)
        sys.exit(subprocess.run([GENERATOR, "serve"], cwd=ROOT, check=False).returncode)
    if found := build():
        sys.exit("\n".join(found))
    print(f"{SITE.relative_to(ROOT)}/index.html")
