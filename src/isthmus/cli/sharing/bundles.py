"""``isthmus export``, ``push`` and ``import FILE``: a trained model on its way to others, and theirs to us."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from jsonargparse import Namespace

from isthmus.cli.parsing.experts import add_experts, expert_paths
from isthmus.cli.parsing.parser import Parser
from isthmus.paths import user_path

ALLOW = "a package of yours that its configuration may name"
MODEL = "a trained stage's folder, or a run's checkpoint: RUN/checkpoints/last.ckpt"
STORED = Literal["float32", "bfloat16", "float16"]


def export_parser() -> Parser:
    """The options of ``isthmus export``."""
    made = Parser(description="Writes a trained model as one folder or file: weights, config, fingerprints, a card.")
    made.add_argument("model", type=user_path, help=MODEL)
    made.add_argument("out", type=user_path, help="a new folder, or a new file that ends in .zip")
    _add_what_is_stored(made)
    return made


def _add_what_is_stored(options: Parser) -> None:
    options.add_argument("--license", type=str, help="of what was learnt, for the card, as apache-2.0")
    options.add_argument("--dtype", type=STORED | None, help="of the stored weights; bfloat16 halves float32's file")
    options.add_argument("--allow", action="append", default=[], help=f"{ALLOW}, of a checkpoint; repeatable")


def run_export(options: Namespace) -> None:
    """Exports, and says what is in it.

    Raises:
        ValueError: see :func:`isthmus.model.sharing.export.export`.
    """
    from isthmus.model.bundle import read_manifest
    from isthmus.model.sharing.export import export

    with _bundled(options.model, options.allow) as folder:
        out = export(folder, options.out, options.license, *_known(options.model), options.dtype)
        parts = len(read_manifest(folder)["components"])
    files = [out] if out.is_file() else list(out.iterdir())
    size = sum(file.stat().st_size for file in files) / 1e6
    print(f"exported: {out} ({size:.1f} MB): {parts} parts, the config, fingerprints and a card (README.md)")
    if options.license is None:
        print("licence:  the card says that none is stated; --license states yours")
    print(f"import:   isthmus import {out} --experts_root FOLDER")


@contextmanager
def _bundled(model: Path, allow: list[str]) -> Iterator[Path]:
    """The trained model's folder that was named, or one of what a checkpoint has learnt, for the block's length."""
    if model.suffix != ".ckpt":
        yield model
        return
    from isthmus.training.checkpoints.bundling import bundle

    with TemporaryDirectory() as made:
        yield bundle(model, Path(made) / model.stem, allow)


def _known(model: Path) -> tuple[list[str], dict[str, str]]:
    """For a model's card: its run's figures, and by class the licence of published weights."""
    from isthmus.cli.parts import all_parts
    from isthmus.cli.runs.results import figures_of

    run = model.parent if model.suffix != ".ckpt" else model.absolute().parents[1]
    figures = [f"{name}: {told}" for name, told in figures_of(run).items()]
    return figures, {part.name: part.card.weights for part in all_parts()}


def push_parser() -> Parser:
    """The options of ``isthmus push``."""
    made = Parser(description="Commits what `isthmus export` writes to a repository on the Hugging Face hub.")
    made.add_argument("model", type=user_path, help=MODEL)
    made.add_argument("repository", type=str, help="org/name; it is made where it isn't there, and private")
    _add_what_is_stored(made)
    made.add_argument("--public", action="store_true", help="a new repository is open to all")
    return made


def run_push(options: Namespace) -> None:
    """Pushes, and says where it is.

    Raises:
        ValueError: see :func:`isthmus.model.sharing.push.push`.
    """
    from isthmus.model.sharing.push import push

    known = _known(options.model)
    with _bundled(options.model, options.allow) as folder:
        found = push(folder, options.repository, options.license, *known, options.dtype, options.public)
    print(f"pushed: {found}")
    if options.license is None:
        print("licence: the card says that none is stated; --license states yours")
    name = options.repository.rpartition("/")[2]
    print(f"others:  hf download {options.repository} --local-dir {name}; isthmus import {name} --experts_root FOLDER")


def import_parser() -> Parser:
    """The options of ``isthmus import FILE``."""
    made = Parser(
        description="Imports what `isthmus export` wrote. `isthmus import nextgpt-v1 --help`: NExT-GPT's first release."
    )
    made.add_argument("file", type=user_path, help="a file or folder that `isthmus export` wrote")
    made.add_argument("--out", type=user_path, help="a new folder; runs/NAME where not given")
    add_experts(made)
    made.add_argument("--allow", action="append", default=[], help=f"{ALLOW}; repeatable")
    made.add_argument("--largest", type=float, default=4.0, help="gigabytes that the file may unpack to")
    return made


def run_import(options: Namespace) -> None:
    """Imports, and says how to go on.

    Raises:
        ValueError: see :func:`isthmus.model.sharing.opening.open_export`.
    """
    from isthmus.model.sharing.opening import open_export

    out = options.out or Path("runs", options.file.stem if options.file.suffix == ".zip" else options.file.name)
    experts = expert_paths(options.experts)
    opened = open_export(options.file, out, experts, options.experts_root, options.allow, options.largest)
    print(f"imported: {opened.folder}, stage {opened.stage}")
    for role, told in opened.experts.items():
        print(f"expert:   {role}: {told}{' (not found here)' if role in opened.absent else ''}")
    how = " --experts_root FOLDER" if opened.absent else ""
    print(f"chat:     isthmus chat --model {opened.folder}{how}")
