"""Station: the measuring bench, its instruments. Whether states come out of a step as what they went in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from ..saveat import SaveAt
from ..solvers import Solver
from ..solving import solve
from ..states import each, leaves
from ..terms import Denoising, DiagonalFlow, ODETerm, Partitioned, ReverseSDE, Semilinear, Split, Stochastic, Term
from ..types import State, Time
from .equations import quiet
from .problems import by_kind
from .told import draws, told
from .trial import converted, stepped

__all__ = ["changed_kinds"]

GRID = (1.0, 1.25, 1.5)

SHAPES = ((), (3,), (2, 3, 4, 5), (0, 2))
"""A number without a batch, a batch of numbers, of images, and an empty one of pairs."""


@torch.no_grad()
def changed_kinds(solver: Solver) -> list[str]:
    """The states whose type, dtype, shape or device a short solve changes, in words; none, if all is well."""
    changed = [
        f"{_told(y0)} became {_told(y1)}" for y0 in _states(solver) if _told(y1 := _solved(solver, y0)) != _told(y0)
    ]
    if solver.info.nfe_step is not None:  # on the meta device, which has no numbers: tensors made elsewhere show
        (y0,) = _shaped(solver, (3, 2), dtype=torch.float64, device="meta")
        y1 = stepped(solver, _term(solver, y0), y0, _grid(solver)).y
        changed += [f"{_told(y0)} became {_told(y1)}"] if _told(y1) != _told(y0) else []
    return changed


def _states(solver: Solver) -> Iterator[State]:
    for shape in SHAPES if not _takes_matrices(solver) else SHAPES[1:]:
        yield from _shaped(solver, shape, dtype=torch.float32)
    yield from _shaped(solver, (3, 2), dtype=torch.float64)
    if torch.accelerator.is_available():
        yield from _shaped(solver, (3, 2), dtype=torch.float32, device=torch.accelerator.current_accelerator())
    if not (
        {Partitioned, Semilinear} & set(solver.info.terms) or _takes_matrices(solver)
    ):  # their parts are of one shape, or one part alone
        yield torch.full((3, 2), 0.5, dtype=torch.float32), torch.full((3, 4, 1), 0.5, dtype=torch.float64)


def _solved(solver: Solver, y0: State) -> State:
    own = converted(solver, leaves(y0)[0].dtype)
    return solve(_term(solver, y0), y0, _grid(solver), solver=own, saveat=SaveAt(final=True)).y1


def _term(solver: Solver, y0: State) -> Term:
    term = by_kind(solver.info, TERMS)
    if isinstance(term, ReverseSDE):
        return told(term, y0)
    return quiet(term, solver.info, y0) if Stochastic in solver.info.terms else term


def _grid(solver: Solver) -> tuple[float, ...]:
    return GRID[::-1] if draws(solver.info) else GRID


def _takes_matrices(solver: Solver) -> bool:
    """Whether its noise has a matrix for one tensor with a batch, and no other."""
    return Stochastic in solver.info.terms and "diagonal" not in solver.info.strong_order


def _shaped(solver: Solver, shape: Sequence[int], **kind: Any) -> Iterator[State]:
    y = torch.full(shape, 0.5, **kind)
    yield (y, y.clone()) if Partitioned in solver.info.terms else y


def _told(y: State) -> str:
    parts = [
        f"{str(leaf.dtype).removeprefix('torch.')} {tuple(leaf.shape)} on {leaf.device.type}" for leaf in leaves(y)
    ]
    return f"({', '.join(parts)})" if isinstance(y, tuple) else parts[0]


def _decay(t: Time, y: State) -> State:
    return each(torch.neg, y)


TERMS: Mapping[type, Term] = {
    Term: ODETerm(_decay),
    ODETerm: ODETerm(_decay),
    Partitioned: Partitioned(lambda t, p: p, _decay),
    Split: Split(_decay, _decay),
    Semilinear: Semilinear(DiagonalFlow(torch.tensor(-1.0)), _decay),
    Denoising: Denoising(_decay),
    ReverseSDE: ReverseSDE(_decay),
}
