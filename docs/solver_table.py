"""Writes docs/reference/solvers.md from what the solvers say of themselves.

python docs/solver_table.py
"""

from __future__ import annotations

import inspect
import math
from pathlib import Path

from deqlight.plugin.manager import load
from deqlight.solvers import Solver, SolverInfo
from deqlight.terms import ReverseSDE

PAGE = Path(__file__).parent / "reference" / "solvers.md"
HEAD = """# All solvers

Written by `python docs/solver_table.py` from each class's `info`; `deqlight check NAME` measures every claim of a row,
[claims](../plugin/claims.md) says how. Wrappers and families are shown by one of their examples.

- **order**: of convergence on smooth problems; in brackets that on Prothero and Robinson's stiff problem (λ = −10⁶);
  of samplers with noise (`ReverseSDE`), of the law of their samples.
- **NFE**: field evaluations a step, and those of starting; "iterates" where each sample stops by its own iteration.
- **error**: order of the local error estimate; a solver with one goes with `PID`.
- **dense**: order between the steps. **stable to**: how far along the negative real axis; ∞ for A-stable methods.
- **noise**: for stochastic terms, the calculus, the strong orders by noise, and the weak order.
- **also**: reversible (can be undone: the gradient `Reversible`), symplectic, equal steps only.

| solver | equation | order | NFE | error | dense | stable to | noise | also | reference |
|---|---|---|---|---|---|---|---|---|---|
"""


def row(solver: Solver) -> str:
    """One line of the table."""
    info = solver.info
    order = f"{info.order}{f' ({info.stiff_order})' if info.stiff_order is not None else ''}"
    also = [
        word
        for word, holds in (
            ("reversible", info.reversible),
            ("symplectic", info.symplectic),
            ("equal steps", info.uniform_steps),
            ("steps that change gradually", info.smooth_steps),
            (f"{info.steps} steps", info.steps > 1),
        )
        if holds
    ]
    name = repr(solver) if inspect.signature(type(solver)).parameters else type(solver).__name__
    cells = (f"`{name}`", equation(info), order, cost(info), info.error_order or "", dense(info), stable(info))
    return "| " + " | ".join([*map(str, cells), noise(info), ", ".join(also), info.reference]) + " |"


def equation(info: SolverInfo) -> str:
    """What kind of equation a solver integrates."""
    kinds = [kind.__name__ for kind in info.terms]
    return "y″ = F" if info.derivative == 2 else "any" if kinds == ["Term"] else f"`{kinds[0]}`"


def cost(info: SolverInfo) -> str:
    """Evaluations."""
    if info.nfe_step is None:
        return "iterates"
    return f"{info.nfe_step}{f' + {info.nfe_start} once' if info.nfe_start else ''}"


def noise(info: SolverInfo) -> str:
    """The calculus, and the orders with noise."""
    if info.calculus is None:
        return ""
    calculus = {"ito": "Itô", "stratonovich": "Stratonovich"}[info.calculus]
    kinds = ", ".join(f"{kind} {order:g}" for kind, order in info.strong_order.items())
    return f"{calculus}: {kinds}{f'; weak {info.weak_order:g}' if info.weak_order else ''}"


def dense(info: SolverInfo) -> str:
    """The order of the dense output."""
    if info.derivative == 2 or ReverseSDE in info.terms:
        return ""
    return str(min(info.order, 4) if info.dense_order is None else info.dense_order)


def stable(info: SolverInfo) -> str:
    """The stability interval."""
    if info.stability is None:
        return ""
    return "∞" if math.isinf(info.stability) else f"{info.stability:g}"


def page() -> str:
    """The whole page."""
    found = load().classes("deqlight_solvers").values()
    ours = sorted(
        (cls for cls in found if cls.__module__.startswith("deqlight.")), key=lambda cls: cls.__name__.lower()
    )
    return HEAD + "\n".join(row(next(iter(cls.examples()))) for cls in ours) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
