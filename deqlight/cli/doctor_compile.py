"""Station 1, the doctor: whether torch.compile works here, and how many graphs an experiment's network falls into."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch

from .doctor_finding import NOTE, OK, Finding
from .line import Line

__all__ = ["breaks", "compiles"]

CLOSE = 1e-6
LONGEST = 200


def compiles() -> Iterator[Finding]:
    """Compile a small graph, and compare what it gives. Nothing needs it unless it is asked for."""
    x, start = torch.linspace(0.0, 1.0, 8), time.perf_counter()
    try:
        off = float((torch.compile(_small)(x) - _small(x)).abs().max())
    except Exception as error:  # a missing compiler, header or permission: each raises its own
        told = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        compiler = "" if shutil.which("c++") or shutil.which("g++") else "there is no C++ compiler: install g++; "
        yield Finding(
            "torch.compile", told[:LONGEST], NOTE, f"{compiler}all works without, where compile is not asked for"
        )
        return
    found = f"a small graph in {time.perf_counter() - start:.1f} s, off by {off:.0e}"
    yield Finding("torch.compile", found, OK if off < CLOSE else NOTE, "" if off < CLOSE else "wrong numbers")


def breaks(line: Line) -> Iterator[Finding]:
    """Trace the network of an experiment on one batch, and tell where graphs break.

    Raises:
        ConfigError: for an experiment that cannot be.
    """
    from .load import network_and_batch

    net, inputs = network_and_batch(line)
    explained: Any = torch._dynamo.explain(net)(inputs)
    torch._dynamo.reset()
    count = int(explained.graph_break_count)
    found = f"{type(net).__name__}: {int(explained.graph_count)} graphs, {count} breaks"
    reasons = Counter(str(reason.reason).splitlines()[0][:LONGEST] for reason in explained.break_reasons)
    told = "\n".join(f"{number} × {reason}" for reason, number in reasons.most_common(5))
    yield Finding("graph breaks", found, NOTE if count else OK, told)


def _small(x: torch.Tensor) -> torch.Tensor:
    return torch.sin(x) + x * x
