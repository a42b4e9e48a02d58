"""A new run's folder: free of an earlier one's work, or refused."""

from __future__ import annotations

import os

from isthmus.training import StageSwitch
from isthmus.training.running.run_folder import has_stages_alone, refuse_work, set_aside

RESTARTS = ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT")
"""Where torchrun and SLURM say how often they have started a run's processes again."""


def is_restarted() -> bool:
    """Whether a launcher has started this run again, after a process of it had died or its job was put back."""
    return any(os.environ.get(name, "0") not in ("", "0") for name in RESTARTS)


def meet_anew() -> None:
    """Lets processes that torchrun has started again meet at a port of their own: the next one for each start.

    torch 2.13 keeps the store of addresses from start to start without telling starts apart, so that a process may
    read the address of one that is dead: "Gloo connectFullMesh failed ... Connection refused". This is for torchrun's
    static rendezvous, where all hosts count the same starts. Under ``--rdzv-backend c10d`` they don't: a host that
    begins again because another one did doesn't count it. There torchrun itself finds a new port for each start, if
    its environment has ``TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1``.
    """
    restarts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT") or 0)
    if restarts and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "False"
        os.environ["MASTER_PORT"] = str(int(os.environ["MASTER_PORT"]) + restarts)


def begin(switch: StageSwitch, overwrites: bool, is_first: bool, goes_on: bool = False) -> None:
    """Sees to it that a new run's folder holds no earlier one's work.

    Args:
        switch: the run's.
        overwrites: whether an earlier run is set aside.
        is_first: whether this is the process that does it.
        goes_on: whether the run is to go on where it can. If some of its stages are over and it has no checkpoint yet,
            it can't, and their weights are set aside.

    Raises:
        ValueError: the folder holds some, or the weights to start from would be set aside.
    """
    folder, source = switch.folder, switch.init_from
    if not overwrites and not (goes_on and has_stages_alone(folder, switch.names)):
        refuse_work(folder)
        return
    if source is not None and source.resolve().is_relative_to(folder.resolve()):
        raise ValueError(
            f"training.init_from: {source} lies in training.folder, whose earlier run --overwrite sets aside; expected "
            "weights of another folder. Fix: choose another training.folder."
        )
    if is_first:
        set_aside(folder)
