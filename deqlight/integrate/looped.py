"""Station: the clock, with measured steps whose loop is compiled. The host looks at it once in many steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch._higher_order_ops.while_loop import while_loop
from torch.utils._pytree import tree_flatten, tree_unflatten

from ..compiling import compiled, must_be_traced
from ..controllers import AdaptiveSteps
from ..problem import Path, Problem
from ..solution import Stats, Tally
from ..solvers import Solver
from ..states import beside, each, leaves, tree_map
from ..terms import Term
from ..types import Carry, State, Tensor
from .outputs import Outputs
from .pace import Pace, Rules
from .stepper import kind_of
from .stops import stops_of

__all__ = ["Looped", "can_be_looped"]


def can_be_looped(problem: Problem, watched: bool) -> bool:
    """Whether a compiled loop does all that is asked: no gradient, one list of times, nobody looking on."""
    tensors = (*leaves(problem.y0), *problem.term.tensors(*problem.ends), *problem.solver.tensors())
    traced = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    plain = isinstance(problem.ts, tuple) and not problem.saveat.dense and not problem.restarts()
    return not (watched or traced or problem.events) and plain


class Walk(NamedTuple):
    """What a loop carries from step to step; tensors of the clocks are float64 and int64 `(clocks,)`."""

    y: State
    carry: Carry
    pace: Pace
    alive: Tensor
    """Which clocks have not reached the stop."""
    stuck: Tensor
    """Which cannot go on."""
    accepted: Tensor
    """Steps that were taken."""
    rejected: Tensor
    """Steps that were tried and thrown away."""
    round: Tensor
    """Steps of this round of the loop, 0-d."""


class Bounds(NamedTuple):
    """What a loop keeps to, as tensors, so that other numbers need no other graph; 0-d float64 but for `goal`."""

    goal: Tensor
    """The next stop of each clock, `(clocks,)`."""
    sign: Tensor
    """The direction of time."""
    span: Tensor
    """The length of the solve."""
    chunk: Tensor
    """Most steps of a round."""
    last: Tensor
    """1 if there is no further stop."""


class Looped:
    """Measured steps without gradients, a graph with a loop inside; from stop to stop, all clocks together.

    Every field call is for all samples; those that have reached the stop wait there.
    """

    def __init__(self, problem: Problem, controller: AdaptiveSteps, chunk: int) -> None:
        self.problem, self.controller, self.chunk = problem, controller, chunk
        self.rules = Rules(controller, problem.error_order)
        self.stops, self.tally = stops_of(problem), Tally()
        self.times: list[float] = self.stops.times.tolist()
        self.device, self.traced = leaves(problem.y0)[0].device, False
        self.sign, self.span = float(self.stops.sign[0]), abs(self.times[-1] - self.times[0])
        self.outputs = Outputs(problem.y0, self.stops.size)

    def run(self) -> Path | None:
        """Loop from stop to stop; None if the field needs a gradient (`traced`), or some clock cannot go on."""
        p = self.problem
        graph = compiled(_loop, (repr(self.rules), kind_of(p.term, p.solver)), True)
        self._keep(0, p.y0)
        walk = self._start()
        for stop in range(1, len(self.times)):
            if walk is not None:
                walk = self._until(stop, walk, graph)
            if walk is None:
                return None
            self._keep(stop, walk.y)
        return None if walk is None else self._path(walk)

    def _start(self) -> Walk | None:
        """Everything at the start; None if the field needs a gradient, or is not finite there."""
        p, joint = self.problem, self.controller.joint
        y0 = each(_plain, p.y0)
        clocks = 1 if joint else p.batch
        t = torch.full((clocks,), self.times[0], dtype=torch.float64, device=self.device)
        term, start = p.term.wrap(self.tally), _for_solver(t, leaves(p.y0)[0], joint)
        f0 = term.vf(start, y0)
        first = self.controller.first_steps(y0, f0, self.rules.order, np.full(clocks, self.span))
        self.traced = any(leaf.requires_grad for leaf in leaves(f0))  # by a tensor that the field closes over
        if self.traced or np.isnan(first).any():
            return None
        dt = torch.as_tensor(np.clip(first, self.controller.dtmin, self.rules.longest), device=self.device)
        carry = p.solver.init(term, start, start + self.sign * self.span, y0)
        ones, none = torch.ones_like(t), torch.zeros_like(t, dtype=torch.int64)
        carry, pace = tree_map(_plain, carry), Pace(t, dt, ones, ones.clone())
        return Walk(y0, carry, pace, none > 0, none < 0, none, none.clone(), none[0].clone())

    def _until(self, stop: int, walk: Walk, graph: Callable[..., Walk]) -> Walk | None:
        """Go to the stop; None if some clock cannot."""
        goal, last = torch.full_like(walk.pace.t, self.times[stop]), float(stop == len(self.times) - 1)
        numbers = (self.sign, self.span, self.chunk, last)
        bounds = Bounds(goal, *(torch.tensor(n, dtype=torch.float64, device=self.device) for n in numbers))
        walk = walk._replace(alive=torch.ones_like(walk.alive))
        while bool(walk.alive.any()):
            walk = walk._replace(round=torch.zeros_like(walk.round))
            walk = graph(self.problem.solver, self.rules, self.problem.term, bounds, walk)
            spent = walk.accepted + walk.rejected + walk.alive > self.problem.max_steps
            if bool((walk.stuck | spent).any()):
                return None
        return walk

    def _keep(self, stop: int, y: State) -> None:
        first = int(self.stops.slots[stop])
        if first >= 0:
            self.outputs.keep(first + self.stops.stride * np.arange(self.problem.batch), y)

    def _path(self, walk: Walk) -> Path:
        batch, nfe = (self.problem.batch,), self.problem.solver.info.nfe_step or 0
        accepted, rejected = (n.cpu().expand(batch).clone() for n in (walk.accepted, walk.rejected))
        stats = Stats(self.tally.calls + nfe * (accepted + rejected), accepted, rejected)
        return Path(self.problem.shaped(self.outputs.gathered()), walk.carry, stats)


def _plain(leaf: Tensor) -> Tensor:
    """The tensor laid out as a loop leaves it."""
    return leaf.clone(memory_format=torch.contiguous_format)


def _for_solver(t: Tensor, leaf: Tensor, joint: bool) -> Tensor:
    """Times of clocks `(clocks,)` as a solver gets them: 0-d for one, `(batch, 1, …)` for each sample its own."""
    return t.reshape(()) if joint else beside(t, leaf)


def _loop(solver: Solver, rules: Rules, term: Term, bounds: Bounds, walk: Walk) -> Walk:
    """Steps towards a stop until all clocks have reached it, one cannot go on, or `chunk` are tried."""
    must_be_traced()
    flat, spec = tree_flatten(walk)

    def goes_on(*flat: Tensor) -> Tensor:
        now: Walk = tree_unflatten(list(flat), spec)
        return now.alive.any() & ~now.stuck.any() & (now.round < bounds.chunk)

    def tries(*flat: Tensor) -> tuple[Tensor, ...]:
        now: Walk = tree_unflatten(list(flat), spec)
        new = _try(solver, rules, term, bounds, now)
        return tuple(tree_flatten(new)[0])

    end: Walk = tree_unflatten(list(while_loop(goes_on, tries, tuple(flat))), spec)  # type: ignore[no-untyped-call]
    return end


def _try(solver: Solver, rules: Rules, term: Term, bounds: Bounds, now: Walk) -> Walk:
    """One attempted step of all clocks; those that are not alive stay as they are."""
    joint, first = rules.controller.joint, leaves(now.y)[0]
    trial = rules.propose(now.pace, bounds.goal, bounds.sign)
    t0, t1 = (_for_solver(t, first, joint) for t in trial[:2])
    step = solver.step(term.over(t0, t1), t0, t1, now.y, now.carry)
    error = rules.controller.errors(now.y if step.error is None else step.error, now.y, step.y)
    pace, accept = rules.advance(now.pace, trial, error.reshape(bounds.goal.shape).double())
    takes = accept & now.alive
    y, carry = tree_map(lambda a, b: torch.where(_for_solver(takes, a, joint), a, b), step[:2], (now.y, now.carry))
    pace = Pace(*(torch.where(now.alive, a, b) for a, b in zip(pace, now.pace, strict=True)))
    there = takes & trial.lands
    stuck = now.alive & ~(there & (bounds.last > 0)) & rules.stuck(pace, trial, accept, bounds.span)
    accepted, rejected = now.accepted + takes, now.rejected + (now.alive & ~accept)
    return Walk(y, carry, pace, now.alive & ~there, stuck, accepted, rejected, now.round + 1)
