"""``isthmus push``: a trained stage's folder -> a repository on the hub, as ``isthmus export`` would write it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from isthmus import __version__
from isthmus.hub.address import pushing
from isthmus.model.bundle import MANIFEST, read_manifest
from isthmus.model.sharing.archive import NAME
from isthmus.model.sharing.export import CARD, exported_files
from isthmus.precision import Dtype

REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
OTHERS = (".gitattributes",)
"""Files that the hub itself puts into a repository."""


def push(
    folder: Path,
    repository: str,
    license: str | None = None,
    figures: Sequence[str] = (),
    published: Mapping[str, str] | None = None,
    dtype: Dtype | None = None,
    public: bool = False,
) -> str:
    """Commits what others need of a trained model, and nothing else; returns the commit's address.

    The token is the one that ``huggingface_hub`` finds: ``HF_TOKEN``, or that of ``hf auth login``.

    Args:
        folder: the trained stage's. See :func:`isthmus.model.sharing.export.export` for what follows.
        repository: ``org/name``. It is made where it isn't there.
        license: of what was learnt.
        figures: lines of what was measured.
        published: by class, the licence of its published weights.
        dtype: what the weights are stored in.
        public: whether a new repository can be read by all; one that is there stays as it is.

    Raises:
        ValueError: the folder isn't a trained model's or holds other files than one, the repository holds something
            else, or the hub refuses.
    """
    if not REPOSITORY.fullmatch(repository):
        raise ValueError(f"{repository}: expected a repository's name, as org/name. Fix: correct it.")
    _refuse_others(folder)
    files = exported_files(folder, repository.rpartition("/")[2], license, figures, published, dtype, repository)
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi(library_name="isthmus", library_version=__version__)
    with pushing(repository):
        api.create_repo(repository, private=not public, exist_ok=True)
        info = api.model_info(repository)
        there = {own.rfilename for own in info.siblings or []} - set(OTHERS)
        is_ours = MANIFEST in there or not there - {CARD}
        if odd := sorted(name for name in there if not is_ours or not NAME.fullmatch(name)):
            raise ValueError(
                f"{repository}: found {', '.join(odd[:5])} in it; expected an empty repository, or an earlier push of "
                "a trained model. Fix: choose another name."
            )
        operations = [CommitOperationAdd(name, content) for name, content in files.items()]
        gone = [CommitOperationDelete(name) for name in sorted(there - files.keys())]
        stage = read_manifest(folder)["stage"]
        found = api.create_commit(
            repository,
            [*operations, *gone],
            commit_message=f"Trained up to {stage}",
            parent_commit=info.sha,  # what was listed is what is replaced
        )
    return str(found.commit_url)


def _refuse_others(folder: Path) -> None:
    """Refuses a folder with more than a bundle in it: experts have licences of their own, and their own publishers."""
    named = {MANIFEST, CARD, *(f"{component}.safetensors" for component in read_manifest(folder)["components"])}
    odd = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    if odd := [name for name in odd if name not in named]:
        raise ValueError(
            f"{folder}: found {', '.join(odd[:5])} beside what its {MANIFEST} names; expected what was learnt alone. "
            "Experts' weights are never pushed: they have licences and publishers of their own. Fix: move these files "
            "out of the folder."
        )
