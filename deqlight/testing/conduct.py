"""Station: the measuring bench, its claims. How a solver behaves in company, which every solver is asked."""

from __future__ import annotations

import copy
import pickle

from ..solvers import Solver
from ..terms import Term
from .finding import EXACT, Finding, Measurement, gap
from .kinds import changed_kinds
from .manners import batch_gap, clock_gap, copy_gap, measured_batch_gap, memory_gap, nan_failure, sharing_gap
from .structure import term_gap
from .told import denoises

__all__ = ["CONDUCT"]

SAMPLES = (
    "A sample's result depends on its batch: a norm or a stopping rule over the whole batch, or statistics of it. "
    "Infinite: its costs do."
)
CLOCKS = "Time as a tensor, (batch, 1, …) or of no axes, gives another result than time as a float."
MEMORY = "carry[samples] is not those samples' memory: axis 0 of each tensor in `carry` must be the batch."
SHARED = (
    "Two solves with one solver disturb each other: nothing may be kept on self between steps, `carry` is for that."
)
NAN = "A field of NaN must end in NonFinite, or NoConvergence where an iteration fails: bound every loop inside a step."
KINDS = "States must come out as they went in: make tensors like the state (zeros_like, new_zeros), not by torch.zeros."
TERMS = (
    "A compound term gives another result than a field that is its sum: use term.vf, term.control and term.advance "
    "alone, or say in `terms` which kinds are integrated."
)
COPIES = (
    "A copy of the solver gives another result: what it needs must be attributes that pickle and deepcopy take along."
)


def _has_a_pace(solver: Solver) -> bool:
    return solver.info.error_order is not None and _has_clocks(solver)


def _shared(solver: Solver) -> Finding:
    apart = sharing_gap(solver)
    return Finding("undisturbed", "undisturbed" if apart == 0 else f"apart by {apart:.1e}", apart == 0, SHARED)


def _copies(solver: Solver) -> Finding:
    gaps = [copy_gap(solver, copied) for copied in (copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s)))]
    return Finding("same solution", "same" if not any(gaps) else f"apart by {max(gaps):.1e}", not any(gaps), COPIES)


def _nan(solver: Solver) -> Finding:
    accepted = ("NonFinite",) if solver.info.nfe_step is not None else ("NonFinite", "NoConvergence")
    found = nan_failure(solver)
    return Finding(" or ".join(accepted), found, found in accepted, NAN)


def _kinds(solver: Solver) -> Finding:
    changed = changed_kinds(solver)
    return Finding("kept", changed[0] if changed else "kept", not changed, KINDS)


def _shares_no_clock(solver: Solver) -> bool:
    """Whether samples may have times of their own: of noise, a batch shares the levels."""
    return not denoises(solver.info)


def _has_clocks(solver: Solver) -> bool:
    return _shares_no_clock(solver) and not solver.info.uniform_steps


CONDUCT = (
    Measurement("terms", lambda s: Term in s.info.terms and s.info.derivative == 1, gap(term_gap, EXACT, TERMS)),
    Measurement("samples", lambda s: True, gap(batch_gap, EXACT, SAMPLES)),
    Measurement("samples, PID", _has_a_pace, gap(measured_batch_gap, EXACT, SAMPLES)),
    Measurement("clocks", _shares_no_clock, gap(clock_gap, EXACT, CLOCKS)),
    Measurement("memory", _has_clocks, gap(memory_gap, EXACT, MEMORY)),
    Measurement("shared", lambda s: True, _shared),
    Measurement("copies", lambda s: True, _copies),
    Measurement("NaN", lambda s: True, _nan),
    Measurement("dtype, shape, device", lambda s: True, _kinds),
)
"""What is asked of every solver; each stands in `docs/plugin/claims.md`."""
