"""Station: the measuring bench, before measuring. Whether what `info` claims can be meant."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ..brownian import LEVY, SPACE_TIME
from ..solvers import Solver, SolverInfo
from ..terms import ReverseSDE, Stochastic, Term
from ..terms.stochastic import NOISES

__all__ = ["nonsense"]


def nonsense(solver: Solver) -> str:
    """What is wrong with a solver's `info`, in words; empty if it can be measured."""
    info = getattr(solver, "info", None)  # what is checked may lack it
    if not isinstance(info, SolverInfo):
        return f"info is {info!r}; it must be a SolverInfo(order=…, nfe_step=…)"
    return "; ".join((*_numbers(info), *_kinds(info), *_noise(info)))


def _numbers(info: SolverInfo) -> Iterator[str]:
    order = info.order if _whole(info.order, 1) else 1
    for name, value, low, high in (
        ("order", info.order, 1, None),
        ("nfe_step", info.nfe_step or 1, 1, None),
        ("nfe_start", info.nfe_start, 0, None),
        ("steps", info.steps, 1, None),
        ("derivative", info.derivative, 1, 2),
        ("error_order", order if info.error_order is None else info.error_order, 1, order + 1),
        ("stiff_order", 0 if info.stiff_order is None else info.stiff_order, 0, order + 1),
        ("dense_order", order if info.dense_order is None else info.dense_order, 1, order + 1),
    ):
        if not _whole(value, low, high):
            limits = f"at least {low}" if high is None else f"from {low} to {high}"
            yield f"{name} is {value!r}; it must be a whole number {limits}"
    stability = 1.0 if info.stability is None else info.stability
    if not isinstance(stability, int | float) or math.isnan(stability) or stability <= 0:
        yield f"stability is {stability!r}; it must be positive, inf, or None"


def _kinds(info: SolverInfo) -> Iterator[str]:
    kinds = info.terms
    if info.fsal and not (info.continuous_field and info.nfe_start):
        yield "fsal is claimed without continuous_field and nfe_start=1: the first of all first stages costs one more"
    if not kinds or not all(isinstance(kind, type) and issubclass(kind, Term) for kind in kinds):
        yield f"terms is {kinds!r}; it must name at least one kind of Term"
    if not isinstance(info.reference, str):
        yield f"reference is {info.reference!r}; it must say where the method is published"


def _noise(info: SolverInfo) -> Iterator[str]:
    if info.calculus not in (None, "ito", "stratonovich"):
        yield f"calculus is {info.calculus!r}; it must be 'ito', 'stratonovich', or None"
    claimed: dict[str, float] = {str(kind): order for kind, order in info.strong_order.items()}
    if (info.calculus is None) != (not claimed):
        yield f"calculus is {info.calculus!r} and strong_order {claimed!r}; one goes with the other"
    needs_one = info.weak_order is not None or info.area or Stochastic in info.terms
    if info.calculus is None and needs_one and ReverseSDE not in info.terms:  # whose noise is the same in both
        yield "weak_order, area or a Stochastic term goes without a calculus; say for which"
    if unknown := claimed.keys() - set(NOISES):
        yield f"strong_order names {sorted(unknown)}; noise is one of {', '.join(NOISES)}"
    orders = {**claimed, "weak": 1.0 if info.weak_order is None else info.weak_order}
    for name, value in orders.items():
        if not isinstance(value, int | float) or not 0 < value < math.inf or value * 2 % 1:
            yield f"the {name} order is {value!r}; it must be a positive multiple of 1/2"
    if info.area not in (0, SPACE_TIME, LEVY):
        yield f"area is {info.area!r}; it must be 0, SPACE_TIME or LEVY"


def _whole(value: object, low: int, high: int | None = None) -> bool:
    return isinstance(value, int) and value >= low and (high is None or value <= high)
