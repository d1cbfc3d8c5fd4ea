"""Station 1, the scheduler: a run that SLURM asked to stop is put into its queue again."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping

__all__ = ["requeue"]

INTERACTIVE = ("bash", "interactive")
PATIENCE = 30.0  # seconds for scontrol


def requeue(environment: Mapping[str, str] | None = None) -> str:
    """Ask SLURM to run this job again; what came of it, or nothing outside of a SLURM job.

    Args:
        environment: the process's, unless another is given; `DEQLIGHT_REQUEUE=0` in it leaves the queue alone.
    """
    known = os.environ if environment is None else environment
    if (
        "SLURM_JOB_ID" not in known
        or known.get("SLURM_JOB_NAME") in INTERACTIVE
        or known.get("DEQLIGHT_REQUEUE") == "0"
    ):
        return ""
    job = known["SLURM_JOB_ID"]
    if "SLURM_ARRAY_JOB_ID" in known:
        job = f"{known['SLURM_ARRAY_JOB_ID']}_{known['SLURM_ARRAY_TASK_ID']}"
    try:
        done = subprocess.run(
            ["scontrol", "requeue", job], capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"job {job} is not in the queue again: scontrol: {error}"
    if done.returncode:
        return f"job {job} is not in the queue again: {done.stderr.strip() or f'scontrol gave {done.returncode}'}"
    return f"job {job} is in the queue again"
