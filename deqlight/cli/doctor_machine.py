"""Station 1, the doctor: packages, devices and folders."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import torch

from .. import __version__
from .doctor_finding import BROKEN, NOTE, OK, Finding

__all__ = ["devices", "folders", "packages"]

EXTRAS = {
    "matplotlib": ("matplotlib", "plots", "figures of deqlight compare and sample"),
    "PIL": ("pillow", "images", "JPEGs: TinyImageNet, photographs"),
    "ot": ("pot", "transport", "optimal transport in the training of flows"),
    "safetensors": ("safetensors", "export", "deqlight export"),
    "optuna": ("optuna", "sweep", "scripts/sweep.py"),
}
"""Module → distribution, the extra of deqlight that brings it, what it is for."""

NEEDED = ("lightning", "torchmetrics", "torchsde", "jsonargparse", "sklearn")
SCARCE = 1 << 30
"""Bytes; a folder of runs with less free than this is soon full."""


def packages() -> Iterator[Finding]:
    """Versions of what is needed, each of which is imported, and of what need not be there."""
    yield Finding("deqlight", __version__)
    yield Finding("Python", f"{platform.python_version()}, {platform.platform()}")
    yield Finding("torch", f"{torch.__version__}, CUDA {torch.version.cuda or 'none'}")
    yield from (_imported(name) for name in NEEDED)
    if find_spec("torchvision") is not None:  # deqlight never needs it, but lightning imports it where it is
        yield _imported("torchvision")
    for module, (name, extra, use) in EXTRAS.items():
        if find_spec(module) is None:
            yield Finding(name, f"not installed; it is for {use}", OK, f"pip install 'deqlight[{extra}]'")
        else:
            yield Finding(name, _version(name))


def devices() -> Iterator[Finding]:
    """What can compute, and with how many threads."""
    free, threads = _usable_cores(), torch.get_num_threads()
    found = f"{threads} threads of torch, {free} cores for this process, {os.cpu_count()} in the machine"
    crowded = threads > free
    remedy = f"more threads than cores slow each other down: OMP_NUM_THREADS={free}" if crowded else ""
    yield Finding("CPU", found, NOTE if crowded else OK, remedy)
    if torch.version.cuda is None:
        yield Finding("CUDA", "torch was built without it")
    elif not torch.cuda.is_available():
        yield Finding(
            "CUDA", "no device is to be seen", NOTE, "nvidia-smi, the driver and CUDA_VISIBLE_DEVICES say why"
        )
    for number in range(torch.cuda.device_count()):
        device = torch.device("cuda", number)
        name, (free_bytes, all_bytes) = torch.cuda.get_device_name(device), torch.cuda.mem_get_info(device)
        torch.ones(1, device=device).sum().item()
        yield Finding(f"cuda:{number}", f"{name}, {free_bytes / 2**30:.1f} of {all_bytes / 2**30:.1f} GiB free")
    if torch.backends.mps.is_available():
        yield Finding("MPS", "available; it has no float64")


def folders(runs: Path) -> Iterator[Finding]:
    """Where runs and temporary files go: whether they can be written, and whether that is one file system."""
    place = next(folder for folder in (runs.absolute(), *runs.absolute().parents) if folder.exists())
    yield _writable("run folder", place, runs, "choose another place with --runs")
    temporary = Path(tempfile.gettempdir())
    yield _writable("temporary folder", temporary, temporary, "set TMPDIR")
    if place.stat().st_dev != temporary.stat().st_dev:
        found = f"{temporary} lies on another file system than {runs}"
        remedy = (
            "no harm to checkpoints, which deqlight writes beside their target; other programs may move files across"
        )
        yield Finding("file systems", found, OK, remedy)


def _imported(name: str) -> Finding:
    try:
        module = importlib.import_module(name)
    except Exception as error:  # a package that is there and broken raises anything
        remedy = "install the build that goes with this torch, or uninstall it: lightning imports it where it is"
        told = f"cannot be imported: {type(error).__name__}: {error}"
        return Finding(
            name, told, BROKEN, remedy if name == "torchvision" else "pip install --force-reinstall deqlight"
        )
    return Finding(name, str(getattr(module, "__version__", "version unknown")))


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "version unknown"


def _usable_cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)  # Linux has it
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _writable(what: str, place: Path, asked: Path, remedy: str) -> Finding:
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"deqlight")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return Finding(what, f"{asked} cannot be written: {error.strerror or error}", BROKEN, remedy)
    left = shutil.disk_usage(place).free
    scarce = left < SCARCE
    return Finding(
        what, f"{asked}, {left / 2**30:.1f} GiB free", NOTE if scarce else OK, "nearly full" if scarce else ""
    )
