"""Station: the way back, by the adjoint equation: the solve is integrated back in time, nothing of it is stored."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, cast

import numpy as np
import torch

from ..controllers import AdaptiveSteps, Controller, FixedSteps
from ..errors import InputError, SolverFailure
from ..integrate import integrate
from ..problem import Path, Problem
from ..saveat import SaveAt
from ..solution import Stats
from ..solvers import Solver
from ..states import leaves, like
from ..terms import Stochastic
from ..terms.ode import OrdinaryTerm
from ..times import Array, OwnTimes, Places
from ..types import Tensor
from ._adjoint import Adjoint
from ._driven import check_relied, driven
from ._ledgers import Apart, Together
from ._legs import Leg, legs, reached
from ._quadrature import Outline, keeps_memory
from ._shared import (
    Counter,
    Sums,
    Versions,
    autocast_as_now,
    differentiable,
    explicit,
    refuse_output,
    watched_by,
)
from ._strides import Onward, Strides
from .base import Gradient

__all__ = ["Backsolve"]

STRAYED = 0.1
"""How far, relatively, the state may come back from that which was kept before a warning: by more than this, the
gradient is that of another solution."""

HINT = (
    "The gradient Checkpoint goes back through the steps themselves, in bounded memory; or keep states at more times "
    "(ts): the way back begins anew at each."
)


@dataclass(frozen=True)
class Backsolve(Gradient):
    """Gradients by the continuous adjoint: dy/dt = f and da/dt = −(∂f/∂y)ᵀ a, integrated back from each kept state.

    Memory does not grow with the steps. The gradient is that of the equation, not of the steps that were taken: it
    agrees with `Direct` to the tolerance of both passes, on fixed grids to the order of the solver. Layers of a network
    are steps: there, and for solvers that are an architecture rather than an approximation, use `Checkpoint`. A field
    that contracts grows back in time: then y comes back wrong, which is told by a warning, or by an error where it
    becomes infinite.

    A stochastic term is integrated back along the same Brownian path, which for Itô's equations needs the correction of
    the drift, −½ Σ_j ∂g_j g_j, and a solver in Stratonovich's sense: `Backsolve(Heun())`. Steps back may be finer than
    those forth if the path is known there. Fixed steps agree with `Direct` to the strong order of the solvers.

    y is taken from the output at every time of it, and a is scaled such that its tolerance is relative to the size of
    the gradients that arrive. Gradients of parameters are no part of the state, and of no error: each evaluation of the
    field is worth what the solver itself makes of it, and steps that are rejected are worth nothing. Times and solvers'
    own coefficients get no gradient. Once differentiable.

    Args:
        solver: integrates back, an explicit one-step method; None for the one of the way forth.
        controller: its steps; None for those of the way forth.

    Raises:
        InputError: for a solver that keeps a memory, solves equations or does not go with the controller or the noise.

    Reference: Chen et al., Neural Ordinary Differential Equations, NeurIPS 2018 (arXiv 1806.07366); on leaving the
    parameters out of the error, Kidger, Chen & Lyons, ICML 2021 (arXiv 2009.09457); for noise, Li, Wong, Chen &
    Duvenaud, Scalable Gradients for Stochastic Differential Equations, AISTATS 2020 (arXiv 2001.01328).
    """

    exact: ClassVar[bool] = False

    solver: Solver | None = None
    controller: Controller | None = None

    def integrate(self, problem: Problem) -> Path:
        """Integrate without autograd, and hang the way back on the result."""
        watched = watched_by(problem)
        if not any(tensor.requires_grad for tensor in watched):
            return integrate(problem)
        refuse_output("Backsolve", problem)
        back = self._back(problem)
        measured = isinstance(problem.controller, AdaptiveSteps)
        strides = Strides(problem.batch) if measured and problem.compile is None else None  # no one watches a loop
        with torch.no_grad():
            path = integrate(problem, strides)
        check_relied(back)
        lengths = np.zeros(problem.batch) if strides is None else strides.lengths
        record = _Record(problem, back, path.stats, reached(problem, path), lengths)
        ys: tuple[Tensor, ...] = _Solve.apply(record, leaves(path.ys), *watched)  # type: ignore[no-untyped-call]
        return replace(path, ys=ys if isinstance(problem.y0, tuple) else ys[0], carry=None)

    def check(self, solver: Solver, controller: Controller) -> None:
        """Refuse a solver that cannot integrate back, or not with these steps."""
        back, pace = self.solver or solver, self.controller or controller
        info, remedy = back.info, "use Backsolve(solver=Dopri5()), or the gradient Checkpoint"
        why = None
        if not explicit(back):
            why = "solves equations in its steps"
        elif info.steps != 1 or keeps_memory(back):
            why = "remembers earlier steps"
        elif info.derivative != 1:
            why = "is for second-order equations"
        elif not issubclass(Adjoint, info.terms):
            why = f"integrates {' or '.join(kind.__name__ for kind in info.terms)} alone"
        elif isinstance(pace, AdaptiveSteps) and info.error_order is None:
            why, remedy = f"has no error estimate for the steps of {type(pace).__name__}", f"{remedy}, or Constant"
        if why is not None:
            raise InputError(f"Backsolve got the solver {back!r} for the way back, which {why}; {remedy}")
        alone = isinstance(pace, AdaptiveSteps) and not pace.joint
        if alone and not (isinstance(controller, AdaptiveSteps) and not controller.joint):
            raise InputError(
                f"Backsolve got {pace!r} for the way back of a solve whose samples share their steps; "
                'use norm="joint" for it, or for the way forth a clock for each sample, too'
            )

    def _back(self, problem: Problem) -> Problem:
        """The problem as it will be integrated back, but for its state and times."""
        solver = self.solver or problem.solver
        controller = cast("FixedSteps | AdaptiveSteps", self.controller or problem.controller)
        term = problem.term
        if isinstance(term, Stochastic):
            term = driven(term, solver, controller)
        if not isinstance(term, OrdinaryTerm):
            raise InputError(
                f"Backsolve got the term {type(term).__name__}; it knows the adjoint of ordinary and stochastic ones "
                "alone: use the gradient Checkpoint"
            )
        if differentiable(*problem.solver.tensors()):
            raise InputError(
                f"Backsolve differentiates the equation, not its solver: coefficients that {problem.solver!r} learns "
                "would get no gradient; use the gradient Checkpoint"
            )
        if isinstance(problem.ts, OwnTimes) and isinstance(controller, AdaptiveSteps) and controller.joint:
            raise InputError(
                f'Backsolve got {controller!r} for the way back from times of each sample; use norm="sample"'
            )
        return replace(
            problem,
            term=term,
            solver=solver,
            controller=controller,
            saveat=SaveAt(final=True),
            freeze=False,
            events=(),
            compile=None,
        ).paced()


class _Record(NamedTuple):
    """What the way back is made from."""

    problem: Problem
    back: Problem
    stats: Stats
    reached: Places
    """The slots of the states that were reached."""
    lengths: Array
    """The last steps of each sample, `(batch,)`; 0 where they are not known."""

    @property
    def apart(self) -> bool:
        """Whether samples step each by itself on the way back."""
        controller = self.back.controller
        return isinstance(self.problem.ts, OwnTimes) or (isinstance(controller, AdaptiveSteps) and not controller.joint)


class _Solve(torch.autograd.Function):
    """A solve that is done as one operation: state and tensors in, kept states out."""

    @staticmethod
    def forward(ctx: Any, record: _Record, ys: tuple[Tensor, ...], *watched: Tensor) -> tuple[Tensor, ...]:
        ctx.record, ctx.watched, ctx.versions = record, watched, Versions(watched)
        ctx.autocast = autocast_as_now(ys[0].device)
        kept = tuple(leaf.detach() for leaf in ys)
        ctx.save_for_backward(*kept)
        return kept

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # the engine builds a graph of the way back
            raise InputError(
                "Backsolve gives first derivatives alone; for create_graph=True use the gradient Direct or Checkpoint"
            )
        ctx.versions.check()
        ys = [leaf.detach() for leaf in ctx.saved_tensors]
        with ctx.autocast():
            back = _WayBack(ctx.record, ys, grads)
            if not back.finite():
                return (None, None, *(torch.full_like(t, torch.nan) if t.requires_grad else None for t in ctx.watched))
            back.run()
        ctx.record.stats.nfe_backward += back.counter.calls
        return (None, None, *back.sums.of(ctx.watched))


class _WayBack:
    """One backward pass.

    Args:
        record: the solve.
        ys: the kept states, leaf by leaf.
        grads: the gradients that arrive at them.
    """

    def __init__(self, record: _Record, ys: Sequence[Tensor], grads: Sequence[Tensor]) -> None:
        self.record, self.sums, self.counter = record, Sums(), Counter()
        p = record.problem
        self.y0 = leaves(p.y0)
        self.ys, self.grads = (
            [leaf.reshape(p.slots, *like.shape[1:]) for leaf, like in zip(parts, self.y0, strict=True)]
            for parts in (ys, grads)
        )
        self.adjoint = [torch.zeros_like(leaf).reshape(leaf.shape or (1,)) for leaf in self.y0]  # (batch, *state)
        self.sizes, self.lengths = _sizes(self.grads, record.reached), record.lengths
        self.scale = self._scale()
        self.tensors = differentiable(*p.term.tensors(*p.ends))
        self.outline = Outline(record.back.solver, p.term.continuous)

    def finite(self) -> bool:
        """Whether the gradients that arrive are."""
        return bool(np.isfinite(self.sizes).all())

    def run(self) -> None:
        """Leg by leg; the adjoints of samples that wait for theirs wait with them."""
        p = self.record.problem
        with torch.no_grad():
            for leg in legs(p, self.record.reached):
                self._leg(leg)
            start = None if p.saveat.final else np.unique(p.marks()[0], return_index=True)[1]
            for leaf, adjoint, grads in zip(self.y0, self.adjoint, self.grads, strict=True):
                found = adjoint * like(self.scale.to(adjoint.device), adjoint)
                found = found if start is None else found + grads[_on(start, grads)]
                self.sums.add(leaf, found.reshape(leaf.shape))

    def _leg(self, leg: Leg) -> None:
        """From one kept state to the one before: the gradient that arrives is added, then both are integrated back."""
        back, record = self.record.back, self.record
        everyone = len(leg.samples) == record.problem.batch
        with torch.enable_grad():  # a term may have data of each sample that need a gradient
            base = back if everyone else back.rows(leg.samples)
        scale = self.scale if everyone or not record.apart else self.scale[_on(leg.samples, self.scale)]
        y, adjoint = self._start(leg, scale)
        ledger = self._ledger(base, scale)
        term = Adjoint(base.term.wrap(self.counter), ledger, isinstance(back.y0, tuple), self.tensors)
        controller, watch = base.controller, Strides(len(leg.samples), ledger)
        if isinstance(controller, AdaptiveSteps):
            controller = Onward(controller, self.lengths[leg.samples][: 1 if controller.joint else None])
        problem = replace(base, term=term, solver=ledger.solver, y0=(*y, *adjoint), ts=leg.ts, controller=controller)
        try:
            path = integrate(problem, watch)
        except SolverFailure as failure:
            raise _on_the_way_back(failure, leg.samples) from failure
        self.lengths = self.lengths.copy()
        self.lengths[leg.samples] = watch.lengths
        found = [leaf[-1].reshape(len(leg.samples), *leaf.shape[2:]) for leaf in leaves(path.ys)]
        for a, new in zip(self.adjoint, found[len(y) :], strict=True):
            a.index_copy_(0, _on(leg.samples, a), new)
        self._compare(leg, found[: len(y)])

    def _start(self, leg: Leg, scale: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """The states and adjoints that a leg begins with."""
        y, adjoint = list[Tensor](), list[Tensor]()
        for leaf, ys, grads, a in zip(self.y0, self.ys, self.grads, self.adjoint, strict=True):
            shape = (len(leg.samples), *leaf.shape[1:]) if leaf.dim() else ()
            arriving = grads[_on(leg.begins, grads)]
            y.append(ys[_on(leg.begins, ys)].reshape(shape))
            adjoint.append((a[_on(leg.samples, a)] + arriving / like(scale.to(a.device), a)).reshape(shape))
        return y, adjoint

    def _ledger(self, base: Problem, scale: Tensor) -> Apart | Together:
        """What sums up the gradients of parameters."""
        if self.record.apart:
            return Apart(base.solver, self.sums, scale)
        return Together(self.outline, self.sums, float(scale))

    def _scale(self) -> Tensor:
        """What adjoints are divided by, so that the largest gradient that arrives is 1: of a sample, or of all.

        `(batch,)` where samples step each by itself, else `(1,)`, on the CPU.
        """
        record, largest = self.record, np.zeros(self.record.problem.batch)
        if isinstance(record.back.controller, AdaptiveSteps):
            np.maximum.at(largest, record.problem.marks()[0][record.reached], self.sizes)
        if not record.apart:
            largest = largest.max(initial=0.0, keepdims=True)
        scale = torch.as_tensor(np.where(largest > 0, largest, 1.0))
        return scale.to(self.grads[0].device) if record.apart else scale

    def _compare(self, leg: Leg, came: Sequence[Tensor]) -> None:
        """Warn, if the states have not come back to those that were kept."""
        apart, size = torch.zeros(()), torch.zeros(())
        for leaf, ys, y in zip(self.y0, self.ys, came, strict=True):
            kept, places = (ys, leg.ends) if leg.ends is not None else (leaf.detach(), leg.samples)
            left = kept.reshape(kept.shape or (1,))[_on(places, kept)]
            apart = apart + (y - left).double().square().sum().cpu()
            size = size + left.double().square().sum().cpu()
        strayed = float((apart / size).sqrt())
        if strayed > STRAYED:
            told = next(f"{most:.0%}" for most in (1.0, STRAYED) if strayed > most)  # few texts, each of them said once
            warnings.warn(
                f"Backsolve came back to states that differ by more than {told} from those that were left: the field "
                f"contracts, which back in time is growth, or steps are too long, and the gradient is wrong. {HINT}",
                stacklevel=2,
            )


def _sizes(grads: Sequence[Tensor], reached: Places) -> Array:
    """The largest number of the gradient that arrives at each state that was reached."""
    rows = [g[_on(reached, g)].flatten(1) if g.dim() > 1 else g[_on(reached, g)][:, None] for g in grads]
    sizes = [row.double().abs().amax(1) for row in rows if row.numel()]
    return np.asarray(torch.stack(sizes).amax(0).cpu().numpy()) if sizes else np.zeros(len(reached))


def _on(places: Places, tensor: Tensor) -> Tensor:
    return torch.as_tensor(places, device=tensor.device)


def _on_the_way_back(failure: SolverFailure, samples: Places) -> SolverFailure:
    return type(failure)(
        f"on the way back of Backsolve, {failure.what}",
        hint=f"Fields that contract grow without bound back in time. {HINT}",
        t=failure.t,
        dt=failure.dt,
        step=failure.step,
        samples=[int(samples[i]) for i in failure.samples],
        nfe=failure.nfe,
    )
