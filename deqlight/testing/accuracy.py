"""Station: the measuring bench, its claims. How accurate a solver is, and how it tells of its errors."""

from __future__ import annotations

import math
from dataclasses import replace

from ..solvers import Solver
from ..terms import ODETerm, Stochastic, Term
from .finding import EXACT, Finding, Measurement, close, gap
from .order import dense_gap, dense_order, error_order, error_ratio, layer_order, observed_order, stiff_order
from .probes import circling
from .stability import stability_interval
from .told import denoises, draws

__all__ = ["ACCURACY"]

ORDER_WITHIN = 0.15
"""How far the observed order may lie from the claimed one: what is left of the next terms of the error."""

STIFF_WITHIN = 0.25
"""The same on stiff problems, where the error is a sum of powers of the step with coefficients of like size."""

ROUGHLY = 0.4
"""The same for the error estimate of single steps, whose next term is not much smaller, and over layers, where what is
looked for is order 1."""

RATIO = (1e-2, 1e3)
"""Between these lies an estimate over the true error: not far below; above it, where the better solution is kept."""

FARTHER = 1.1
"""How much farther than claimed a method may be stable, as a factor: claims are rounded down."""

HERMITE = 4
"""The order of Hermite's cubic, the solution between the ends of steps where a method has none of its own."""

NO_RANGE = (
    "Too few errors lie between 1e-3 and rounding: the method does not converge to the solution, or an iteration in it "
    "stops too early. Look at signs, and at weights that should sum to 1."
)
TOO_GOOD = "The method is better than it claims; say so."
WRONG_TIME = (
    "Order {:.1f} on a field that depends on time, {} on one that does not: a stage is evaluated at the wrong time. "
    "Look at the nodes, t0 + c·(t1 − t0)."
)
FOLLOWS = "The order itself is not as claimed; see there."
WRONG_NUMBER = (
    "The error shrinks more slowly than claimed, on fields that do not depend on time too: a coefficient is wrong, or "
    "the method starts at too low an order."
)
BACKWARD = "Forward in time the order is right: the sign of the step t1 − t0, negative here, is lost somewhere."
UNEVEN = (
    "On equal steps the order is right: weights of a method that remembers steps ignore the ratio of their lengths. "
    "Use it, or claim uniform_steps."
)
STIFF = (
    "Implicit Runge–Kutta methods fall to the order of their stages on stiff problems, or one above; claim what is "
    "measured. Far below it, the stages are not solved for accurately."
)
STABLE = (
    "The number is the largest −hλ for which solutions of y' = λy do not grow: a polynomial 1 + z + … is stable for a "
    "few units, an implicit method for all if it claims inf. Claim what is measured, rounded down."
)
ESTIMATE = (
    "The estimate of one step shrinks with another power of the step than claimed. With an embedded method of order q "
    "it is q + 1; one less says that the estimate lacks a factor t1 − t0 (use term.increment)."
)
SIZE = (
    "At a step for which the estimate is about 1e-3, it is this many times the true error of the step. Too small, and "
    "steps chosen by it are too long: look at signs, and at weights that should sum to 0."
)
DENSE = (
    "Between the ends of steps the error shrinks more slowly than claimed. Look at the slopes that `dense` takes and "
    "their places in the step; without a `dense` of your own, the claim is min(order, 4), which None stands for."
)
DENSE_ENDS = "The polynomial does not begin at y0 and end at y1: its coefficients sum to y1, the first of them is y0."
STALE = (
    "Where another layer begins, a field value of the last one was used: carry one over the end of a step only if "
    "`term.continuous`."
)


def _order(solver: Solver) -> Finding:
    measured = observed_order(solver)
    why = "" if _is(solver.info.order, measured, ORDER_WITHIN) else _why(solver, measured)
    return close(solver.info.order, measured, ORDER_WITHIN, why)


def _why(solver: Solver, measured: float) -> str:
    """What an order that is not the claimed one usually means."""
    info = solver.info
    if math.isnan(measured):
        return NO_RANGE
    if measured > info.order:
        return TOO_GOOD
    ordinary = {Term, ODETerm} & set(info.terms) and info.derivative == 1
    if ordinary and _is(info.order, observed_order(solver, problem=circling()), ORDER_WITHIN):
        return WRONG_TIME.format(measured, info.order)
    return WRONG_NUMBER


def _order_backward(solver: Solver) -> Finding:
    return _following(solver, close(solver.info.order, observed_order(solver, backward=True), ORDER_WITHIN, BACKWARD))


def _order_uneven(solver: Solver) -> Finding:
    return _following(solver, close(solver.info.order, observed_order(solver, uneven=True), ORDER_WITHIN, UNEVEN))


def _order_layers(solver: Solver) -> Finding:
    return _following(solver, close(solver.info.order, layer_order(solver), ROUGHLY, STALE))


def _order_stiff(solver: Solver) -> Finding:
    measured = stiff_order(solver)
    return close(solver.info.stiff_order or 0, measured, STIFF_WITHIN, NO_RANGE if math.isnan(measured) else STIFF)


def _stability(solver: Solver) -> Finding:
    claimed = solver.info.stability or 0.0
    measured = stability_interval(solver, claimed * FARTHER)
    limited = math.isfinite(claimed)
    ok = claimed * (1 - EXACT) <= measured < claimed * FARTHER if limited else measured == claimed
    told = f"beyond {measured:.4g}" if limited and measured >= claimed * FARTHER else f"{measured:.4g}"
    return Finding(f"{claimed:.4g} to {claimed * FARTHER:.4g}" if limited else "inf", told, ok, STABLE)


def _error_order(solver: Solver) -> Finding:
    return close(solver.info.error_order or 0, error_order(solver), ROUGHLY, ESTIMATE)


def _error_size(solver: Solver) -> Finding:
    (low, high), ratio = RATIO, error_ratio(solver)
    return Finding(f"{low:g} to {high:g} × true", f"{ratio:.2g} × true", low <= ratio <= high, SIZE)


def _dense(solver: Solver) -> Finding:
    info = solver.info
    claimed = min(info.order, HERMITE) if info.dense_order is None else info.dense_order
    most, measured = max(claimed, info.order), dense_order(solver)
    ok = claimed - ORDER_WITHIN <= measured <= most + ORDER_WITHIN
    told = f"{claimed} to {most}" if most > claimed else f"{claimed}"
    return _following(solver, Finding(f"{told} ± {ORDER_WITHIN}", f"{measured:.2f}", ok, DENSE))


def _following(solver: Solver, found: Finding) -> Finding:
    """The finding, with its own reason only where the order itself is right."""
    right = found.ok or _is(solver.info.order, observed_order(solver), ORDER_WITHIN)
    return found if right else replace(found, why=FOLLOWS)


def _is(claimed: float, measured: float, within: float) -> bool:
    return abs(measured - claimed) <= within


def _runs_backward(solver: Solver) -> bool:
    """Whether it makes sense backwards: Itô's equations do not, nor samplers that start at much noise at low order."""
    info = solver.info
    if denoises(info):
        return info.steps == 1 and not draws(info)
    return not (Stochastic in info.terms and info.calculus == "ito")


def _is_dense(solver: Solver) -> bool:
    """Whether it knows something between the ends of steps: methods for accelerations and with noise do not."""
    return solver.info.derivative == 1 and not draws(solver.info)


ACCURACY = (
    Measurement("order", lambda s: True, _order),
    Measurement("order, reversed time", _runs_backward, _order_backward),
    Measurement("order, uneven steps", lambda s: not s.info.uniform_steps, _order_uneven),
    Measurement("order over layers", lambda s: s.info.continuous_field and s.info.order > 1, _order_layers),
    Measurement("order, stiff", lambda s: s.info.stiff_order is not None, _order_stiff),
    Measurement("stability", lambda s: s.info.stability is not None, _stability),
    Measurement("error order", lambda s: s.info.error_order is not None, _error_order),
    Measurement("error size", lambda s: s.info.error_order is not None, _error_size),
    Measurement("dense order", _is_dense, _dense),
    Measurement("dense ends", _is_dense, gap(dense_gap, EXACT, DENSE_ENDS)),
)
"""What can be claimed of accuracy; each stands in `docs/plugin/claims.md`."""
