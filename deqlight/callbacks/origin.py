"""Station: what runs beside the training. Where numbers come from: versions of packages, and the machine."""

from __future__ import annotations

import platform
import socket
from importlib.metadata import PackageNotFoundError, version

import torch

__all__ = ["PACKAGES", "machine", "versions"]

PACKAGES = ("lightning", "torchmetrics", "torchsde", "numpy", "scikit-learn", "jsonargparse", "pluggy")
"""Besides deqlight, torch and Python: what a run's numbers, or the reading of its configuration, can depend on."""


def versions(deqlight: str) -> dict[str, str]:
    """Name → version of deqlight, Python, torch and the packages that are there; torch's says which build it is."""
    found = {"deqlight": deqlight, "python": platform.python_version(), "torch": str(torch.__version__)}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine(device: torch.device) -> dict[str, str | int]:
    """What this process runs on."""
    named = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {
        "host": socket.gethostname(),
        "system": platform.platform(),
        "device": named,
        "threads": torch.get_num_threads(),
    }
