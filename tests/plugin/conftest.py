"""Plants distributions on the import path: a `*.dist-info` folder and a module are all that `pip install` leaves."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from itertools import count
from pathlib import Path

import pytest

NUMBER = count()
SWITCHES = ("STRICT", "DISABLE", "TRACE")

HEAD = """
from deqlight.plugin import impl
from deqlight.solvers import Solver, SolverInfo, Step
"""
SOLVER = """
class {name}(Solver):
    info = SolverInfo(order=1, nfe_step=1)

    def step(self, term, t0, t1, y0, carry):
        return Step(term.advance(y0, [1.0], [term.vf(t0, y0)], term.control(t0, t1)))
"""
HOOK = """
@impl
def deqlight_solvers():
    return [{name}]
"""


@dataclass(frozen=True)
class Garden:
    folder: Path

    def plant(self, name: str, source: str, version: str = "1.2") -> str:
        """A distribution `deqlight-NAME` with the plugin NAME; returns the name of its module."""
        module = f"planted_{name}_{next(NUMBER)}"
        (self.folder / f"{module}.py").write_text(source)
        info = self.folder / f"deqlight_{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: deqlight-{name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[deqlight]\n{name} = {module}\n")
        return module

    def plant_healthy(self, name: str, solver: str) -> str:
        return self.plant(name, self.source(solver))

    @staticmethod
    def source(solver: str) -> str:
        """A plugin that brings one solver of this name."""
        return HEAD + SOLVER.format(name=solver) + HOOK.format(name=solver)

    @staticmethod
    def without_hook(solver: str) -> str:
        return HEAD + SOLVER.format(name=solver)


@pytest.fixture
def garden(tmp_path, monkeypatch):
    """An import path whose only plugins are the planted ones, and no switch set."""
    for switch in SWITCHES:
        monkeypatch.delenv(f"DEQLIGHT_{switch}_PLUGINS", raising=False)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(metadata, "distributions", partial(metadata.distributions, path=[str(tmp_path)]))
    before = set(sys.modules)
    yield Garden(tmp_path)
    for name in set(sys.modules) - before:
        if name.startswith(("planted_", "deqlight_inline_")):
            del sys.modules[name]
