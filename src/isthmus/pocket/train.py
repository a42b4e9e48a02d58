"""Trains every embedded expert from scratch, one after another: ``python -m isthmus.pocket.train``.

This made the weights in the repository. It takes an hour or two on two cores; an interrupted run resumes from its
snapshots. With ``--manifest``, the embedded experts are trained further on a user's own media instead: on digits
(:mod:`isthmus.pocket.own.tuning`) if its records have labels, otherwise on captions
(:mod:`isthmus.pocket.own.caption_tuning`).
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

import torch

from isthmus.paths import shipped_path, user_path
from isthmus.pocket.experts import imagebind, stable_diffusion, zeroscope
from isthmus.pocket.experts.audio import audioldm
from isthmus.pocket.experts.language import bert, llama
from isthmus.pocket.experts.points import point_bert, shap_e
from isthmus.pocket.judges import training as judges
from isthmus.pocket.manifest_world import ManifestWorld
from isthmus.pocket.own import caption_tuning
from isthmus.pocket.own.captioned import CaptionedSet, has_labels
from isthmus.pocket.own.tuning import tune

log = logging.getLogger(__name__)


def train(out: Path, scratch: Path, effort: float = 1.0, seed: int = 0) -> dict[str, dict[str, float]]:
    """Writes all experts below ``out``; returns their measured figures on test data.

    Args:
        out: the folder of the experts' folders.
        scratch: folder for snapshots of interrupted trainings.
        effort: factor of all numbers of steps; below 1 the experts are worse.
        seed: of weights and data.
    """
    figures: dict[str, dict[str, float]] = {}
    judges.train(out / "judges", effort, seed)
    figures["llama"] = llama.train(out / "llama", effort, seed, scratch)
    bert.write(out / "bert")
    figures["imagebind"] = imagebind.train(out / "imagebind", effort, seed, scratch)
    figures["point_bert"] = point_bert.train(out / "point_bert", effort, seed, scratch, out / "imagebind")
    figures["audioldm"] = audioldm.train(out / "audioldm", effort, seed, scratch)
    count = max(int(400 * min(effort, 1)), 4)
    stable_diffusion.train(out / "stable_diffusion", effort, seed, scratch)
    figures["stable_diffusion"] = stable_diffusion.measure(out / "stable_diffusion", out / "judges", count)
    zeroscope.train(out / "zeroscope", out / "stable_diffusion", effort, seed, scratch)
    figures["zeroscope"] = zeroscope.measure(out / "zeroscope", out / "judges", count)
    shap_e.train(out / "shap_e", effort, seed, scratch)
    figures["shap_e"] = shap_e.measure(out / "shap_e", out / "judges", count)
    return figures


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=user_path, help="default: checkpoints/pocket; to be given with --manifest")
    parser.add_argument(
        "--scratch", type=user_path, help="of interrupted trainings (default: runs and the name of --out)"
    )
    parser.add_argument("--effort", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    own = parser.add_argument_group("a user's own media: digits, or captioned images, videos and clouds")
    own.add_argument("--manifest", type=user_path, help="their list: train on its training split")
    own.add_argument("--start", type=shipped_path, default="checkpoints/pocket", help="experts to go on from")
    own.add_argument("--experts", nargs="+", help="only these, in this order (default: all)")
    arguments = parser.parse_args()
    if arguments.manifest is None and arguments.experts is not None:
        parser.error("--experts: found without --manifest, where all experts are trained; leave it out")
    if arguments.manifest is not None and arguments.out is None:
        parser.error("--out: found none; expected a folder for the experts of --manifest, such as checkpoints/mine")
    logging.basicConfig(level=logging.INFO)
    # Layers are so small that a second thread costs more than it saves.
    torch.set_num_threads(1)
    out = arguments.out or Path("checkpoints/pocket")
    scratch = arguments.scratch or Path("runs") / out.name
    if arguments.manifest is None:
        figures = train(out, scratch, arguments.effort, arguments.seed)
    else:
        settings = (out, arguments.start, scratch, arguments.effort, arguments.seed, arguments.experts)
        if has_labels(arguments.manifest):
            figures = tune(ManifestWorld(arguments.manifest), *settings)
        else:
            figures = caption_tuning.tune(CaptionedSet(arguments.manifest), *settings)
    log.info("measured on test data:\n%s", json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
