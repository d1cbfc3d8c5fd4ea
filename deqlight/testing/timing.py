"""Station: the measuring bench, its stop-watch. Runs that take turns, so that all see the same machine."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from .memory import without_collector

__all__ = ["interleaved", "machine", "median_ratio", "stop_watch"]

Clock = Callable[[], float]


def interleaved(
    runs: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    warm_up: int = 1,
    clock: Clock = time.process_time,
) -> dict[str, list[float]]:
    """Seconds of each run in each round. In a round each runs once, every other round in reversed order.

    A machine that slows down for a while then slows all of them; `median_ratio` compares round by round.

    >>> times = interleaved({"short": lambda: sum(range(1000)), "long": lambda: sum(range(100_000))}, rounds=5)
    >>> median_ratio(times["long"], times["short"]) > 10
    True
    """
    for _ in range(warm_up):
        for run in runs.values():
            run()
    found: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        names = list(runs)[:: 1 if number % 2 == 0 else -1]
        with without_collector():
            for name in names:
                started = clock()
                runs[name]()
                found[name].append(clock() - started)
    return found


def median_ratio(times: Sequence[float], others: Sequence[float]) -> float:
    """The median of the ratios of two runs' seconds, round by round."""
    return statistics.median(a / b for a, b in zip(times, others, strict=True))


def stop_watch(device: torch.device) -> Clock:
    """A clock for work on a device: this process's time on the CPU; elsewhere real time, once the device is idle."""
    if device.type == "cpu":
        return time.process_time

    def idle() -> float:
        torch.accelerator.synchronize()
        return time.perf_counter()

    return idle


def machine() -> dict[str, str | int]:
    """The machine and the versions that a figure belongs to."""
    found: dict[str, str | int] = {
        "cpu": _cpu(),
        "system": f"{platform.system()} {platform.machine()}",
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    return found | ({"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {})


def _cpu() -> str:
    """The processor's name as Linux has it, or as Python has it elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
