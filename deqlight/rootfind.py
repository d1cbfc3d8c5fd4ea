"""Station: where a residual vanishes. Newton's method, each sample by itself; gradients by the implicit function.

The equation is u = g(base + a u): of the increments u of coupled Runge–Kutta stages, or, with a = 1 and base = 0, of
the fixed point of a network. g acts on each sample, and on each stage, by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

import torch

from .errors import InputError
from .linear import Factorised, Inverse, Krylov, Linearisation, solved
from .states import tree_map
from .types import Tensor

__all__ = ["Map", "Newton", "Root", "Search", "implicit"]

Map: TypeAlias = Callable[[Tensor, Tensor | None], Tensor]
"""`g(z, index)`, `z` and the result `(rows, stages, n)`, of the samples `index` `(rows,)` of the batch; None: all."""

PATIENCE = 2
"""A Jacobian that would not do in so many more iterations is renewed."""

STALLED = 0.5
"""Corrections that shrink less than by this, with a new Jacobian and close to the root, are rounding."""

GRADE, LEAST = 4.0, 1 / 256
"""Factor that damping changes by; where it would fall below the other, the Jacobian is singular near by: jump."""

FRACTION, TRIES = 0.01, 12
"""Share of a step's tolerance that the iteration may leave; most iterations, where a shorter step is the remedy."""

ROUNDING, FLOOR = 10.0, 4.0
"""Corrections, in units of eps, that end an iteration down to rounding; that no tolerance can go below."""

NEAR, CLOSE = 0.5, 30.0
"""How near the root is where rounding may stop an iteration: eps to this power; so many tolerances."""

FORCING, EXACT = 1e-4, 0.7
"""Relative residual of GMRES in an iteration; eps to this power in a gradient."""

GO, REFRESH, DONE, FAILED = 0, 1, 2, 3
"""What becomes of a sample after an evaluation: REFRESH goes on with a new factorisation."""


class Root(NamedTuple):
    """What an iteration found."""

    u: Tensor
    """The root, `(batch, stages, n)`, without a graph; where the search failed, how far it came, NaN where g is NaN."""
    evaluations: Tensor
    """Evaluations of g for each sample, `(batch,)` of int64 on the CPU."""
    converged: Tensor
    """`(batch,)` of bool on the CPU."""
    inverse: Factorised | None
    """The last factorisation of each sample, for the next equation; None where there is none."""
    differentiable: bool
    """Whether autograd was on and g depends on more that needs a gradient than its argument."""


class _Rows(NamedTuple):
    """Where the samples that still iterate stand; axis 0 is those samples throughout."""

    samples: Tensor  # (rows,)
    base: Tensor  # (rows, 1, n)
    tolerance: Tensor  # (rows, 1, n), or empty
    u: Tensor  # (rows, stages, n)
    delta: Tensor  # the correction at u; u + damping · delta is tried next
    residual: Tensor  # (rows,) the norm of the residual at u
    damping: Tensor  # (rows,)
    begun: Tensor  # (rows,) whether g is known to be finite at u
    stale: Tensor  # (rows,) whether the factorisation is to be renewed before it serves
    fresh: Tensor  # (rows,) whether delta comes from the Jacobian at u
    factors: Tensor  # (rows, stages · n, stages · n), or empty
    pivots: Tensor  # (rows, stages · n), or empty


@dataclass(frozen=True)
class Newton:
    """Newton's method with a frozen Jacobian while that contracts well, and damped steps where it does not.

    Samples that are done leave, so that none depends on another and each costs its own evaluations. Damping is by the
    natural monotonicity test. Jacobians are factorised for at most `dense` unknowns of a sample, above GMRES solves.

    Args:
        dense: most unknowns of a sample (numbers times coupled stages) that are solved for by factorisation.
        max_iterations: most evaluations of g for one root.
        rtol: relative tolerance of the step that the root is for; None for none: iterate down to rounding.
        atol: absolute tolerance of the step; a tensor broadcasts against the state.

    Raises:
        InputError: for a negative size, or no iterations.

    Reference: Deuflhard, Newton Methods for Nonlinear Problems, 2004, §2.1 and §3.3; Hairer & Wanner, Solving Ordinary
    Differential Equations II, §IV.8.
    """

    dense: int = 64
    max_iterations: int = 50
    rtol: float | None = None
    atol: float | Tensor = 0.0

    def __post_init__(self) -> None:
        if self.dense < 0 or self.max_iterations < 1:
            raise InputError(
                f"Newton's method got dense={self.dense}, max_iterations={self.max_iterations}; it needs dense >= 0 "
                "and max_iterations >= 1"
            )

    def within(self, rtol: float, atol: float | Tensor) -> Newton:
        """The iteration for steps with these tolerances, which gives up earlier: a shorter step is the remedy."""
        return replace(self, rtol=rtol, atol=atol, max_iterations=min(self.max_iterations, TRIES))

    def tolerance(self, atol: Tensor, y0: Tensor) -> Tensor:
        """What a root may be wrong by, besides its own size times `rtol`, where the step begins at `y0`."""
        return FRACTION * (atol + (self.rtol or 0.0) / 2 * y0.abs())

    def factorises(self, z: Tensor) -> bool:
        """Whether equations of this shape, `(batch, stages, n)`, are solved by factorisation."""
        return z.shape[1] * z.shape[2] <= self.dense

    def inverse(self, at: Linearisation, a: Tensor, within: float) -> Inverse:
        """The inverse of 1 − a ∂g/∂z at a linearisation: factorised, or by GMRES to a relative residual."""
        return Factorised.of(at.jacobians(), a) if self.factorises(at.z) else Krylov(at, a, within)


class Search:
    """The search for one root of each sample.

    Args:
        newton: how.
        g: the map.
        a: what couples the stages, `(stages, stages)`.
        eps: the resolution of the numbers that g returns.
    """

    def __init__(self, newton: Newton, g: Map, a: Tensor, eps: float) -> None:
        self.newton, self.g, self.a, self.eps = newton, g, a, eps
        self.wants_grad, self.differentiable = torch.is_grad_enabled(), False

    @torch.no_grad()
    def run(
        self,
        base: Tensor,
        tolerance: Tensor | None,
        safe: Tensor,
        guess: Tensor | None = None,
        inverse: Factorised | None = None,
        alive: Tensor | None = None,
    ) -> Root:
        """Solve u = g(base + a u) for each sample.

        Args:
            base: `(batch, n)`.
            tolerance: what the root may be wrong by, besides `rtol` of the iteration, `(batch, n)`; None: rounding.
            safe: where to begin if `guess` does not serve, `(batch, stages, n)`.
            guess: where to begin.
            inverse: a factorisation near the root, to begin with.
            alive: which samples to solve for, `(batch,)` of bool; None for all. The others count as not converged.
        """
        self.evaluations = torch.zeros(len(base), dtype=torch.int64)
        self.converged = torch.zeros(len(base), dtype=torch.bool)
        self.factorises, self.whole, self.ended = self.newton.factorises(safe), alive is None, list[_Rows]()
        rows = self._start(base.detach(), tolerance, safe.detach(), guess, inverse)
        if alive is not None:
            self.ended.append(tree_map(lambda leaf: leaf[~alive], rows))
            rows = tree_map(lambda leaf: leaf[alive], rows)
        for _ in range(self.newton.max_iterations):
            if not len(rows.samples):
                break
            rows = self._iterate(rows)
        return self._gather(rows, safe)

    def _start(
        self, base: Tensor, tolerance: Tensor | None, safe: Tensor, guess: Tensor | None, inverse: Factorised | None
    ) -> _Rows:
        batch, empty, size = len(base), base.new_empty(len(base), 0), safe.shape[1] * safe.shape[2]
        no = torch.zeros(batch, dtype=torch.bool, device=base.device)
        if inverse is None and self.factorises:  # renewed before it serves
            pivots = torch.ones(batch, size, dtype=torch.int32, device=base.device)
            inverse, stale = Factorised(base.new_zeros(batch, size, size), pivots), ~no
        else:
            stale = no
        return _Rows(
            samples=torch.arange(batch, device=base.device),
            base=base[:, None],
            tolerance=empty if tolerance is None else tolerance.detach()[:, None],
            u=safe,
            delta=torch.zeros_like(safe) if guess is None else guess.detach() - safe,
            residual=base.new_zeros(batch),
            damping=base.new_full((batch,), 0.0 if guess is None else 1.0),
            begun=no,
            stale=stale,
            fresh=no,
            factors=empty if inverse is None else inverse.factors,
            pivots=empty if inverse is None else inverse.pivots,
        )

    def _iterate(self, rows: _Rows) -> _Rows:
        """One evaluation of g: try each sample's correction, and find the next one."""
        damping = rows.damping[:, None, None]
        trial = rows.u + torch.where(damping > 0, damping * rows.delta, 0.0)  # delta may be infinite
        z = rows.base + torch.einsum("ij,bjn->bin", self.a, trial)
        at = self._linearised(z, rows.samples)
        r = trial - at.value.detach()
        correction = self._correction(rows, at, r)
        codes, rows = self._judge(rows, trial, z, r, correction)
        told = codes.cpu()  # the one read of an iteration
        self.evaluations[rows.samples.cpu()] += 1
        if bool((told == REFRESH).any()):
            rows = self._refresh(rows, at, r, (codes == REFRESH).nonzero()[:, 0])
        return self._leave(rows, codes, told)

    def _linearised(self, z: Tensor, index: Tensor) -> Linearisation:
        with torch.inference_mode(False), torch.enable_grad():
            z = z.clone().requires_grad_()
            at = Linearisation(z, self.g(z, None if self.whole else index))
        if self.wants_grad:
            self.differentiable, self.wants_grad = at.depends_on_more(), False
        return at

    def _correction(self, rows: _Rows, at: Linearisation, r: Tensor) -> Tensor:
        """The correction at the trial: with the old factorisation, simplified; by GMRES, Newton's own."""
        if not self.factorises:
            return -Krylov(at, self.a, FORCING).solve(r)
        return -Factorised(rows.factors, rows.pivots).solve(r)

    def _judge(self, rows: _Rows, trial: Tensor, z: Tensor, r: Tensor, correction: Tensor) -> tuple[Tensor, _Rows]:
        """What becomes of each sample, as a code, and where it goes on."""
        scale = self._scale(rows, z, trial, correction)
        size, before = (_rms(v / scale) for v in (correction, rows.delta))
        rate, residual = size / before.clamp(min=torch.finfo(size.dtype).tiny), torch.linalg.vector_norm(r, dim=(1, 2))
        finite = residual.isfinite() & (rows.stale | correction.isfinite().flatten(1).all(1))  # stale: gave none
        least = 1 - rows.damping / 4
        better = (rate <= least) | (residual <= least * rows.residual)
        accept = finite & (~rows.begun | better)
        known = rows.begun & (rows.damping == 1)
        left = torch.where(known, rate / (1 - rate.clamp(max=STALLED)), 1.0).clamp(max=1.0) * size
        stalled = finite & rows.begun & rows.fresh & (rate > STALLED) & (size <= self._near())
        done = ~rows.stale & ((accept & (left <= 1)) | stalled)
        poor = rows.begun & ((size * rate**PATIENCE > 1) | (rows.damping < 1))
        refresh = accept & ~done & (rows.stale | poor) if self.factorises else torch.zeros_like(accept)
        lost = ~accept & ~rows.begun & (rows.damping == 0)
        codes = torch.where(done, DONE, torch.where(lost, FAILED, torch.where(refresh, REFRESH, GO)))
        moved = (accept | done)[:, None, None]
        rows = self._damp(rows, accept)._replace(
            u=torch.where(moved, trial, rows.u),
            delta=torch.where(moved, correction, rows.delta),
            residual=torch.where(accept, residual, rows.residual),
        )
        return codes, rows

    def _damp(self, rows: _Rows, accept: Tensor) -> _Rows:
        """How far along its correction each sample goes next: further, less far, or from the start again."""
        back = ~accept & rows.begun & ~rows.fresh  # a frozen Jacobian misled: to where it began, for a new one
        jump = ~accept & rows.begun & rows.fresh & (rows.damping <= LEAST)  # the whole step, whatever comes
        further = torch.where(rows.begun, (GRADE * rows.damping).clamp(max=1.0), 1.0)
        damping = torch.where(accept, further, torch.where(jump, 1.0, rows.damping / GRADE))
        anew = back | jump
        return rows._replace(
            damping=torch.where(back | (~accept & ~rows.begun), 0.0, damping),
            begun=(rows.begun | accept) & ~anew,
            stale=rows.stale | (anew & self.factorises),
            fresh=torch.where(accept, not self.factorises, rows.fresh),
        )

    def _refresh(self, rows: _Rows, at: Linearisation, r: Tensor, which: Tensor) -> _Rows:
        """New factorisations and corrections, at the trials that were just accepted."""
        inverse, yes = Factorised.of(at.jacobians()[which], self.a), torch.ones_like(which, dtype=torch.bool)
        return rows._replace(
            factors=rows.factors.index_copy(0, which, inverse.factors),
            pivots=rows.pivots.index_copy(0, which, inverse.pivots),
            delta=rows.delta.index_copy(0, which, -inverse.solve(r[which])),
            fresh=rows.fresh.index_copy(0, which, yes),
            stale=rows.stale.index_copy(0, which, ~yes),
        )

    def _scale(self, rows: _Rows, z: Tensor, u: Tensor, correction: Tensor) -> Tensor:
        """What a correction is measured by, number by number; z is a sum, which its largest part rounds."""
        size = torch.maximum(torch.maximum(z.abs(), u.abs()), rows.base.abs())
        tiny = torch.finfo(z.dtype).tiny
        if self.newton.rtol is None:
            size = torch.maximum(size, correction.abs()).flatten(1).amax(1)[:, None, None]
            return ROUNDING * self.eps * size + tiny
        return rows.tolerance + FRACTION * self.newton.rtol / 2 * z.abs() + FLOOR * self.eps * size + tiny

    def _near(self) -> float:
        """The size of a correction below which rounding may be what is left."""
        return self.eps**NEAR / (ROUNDING * self.eps) if self.newton.rtol is None else CLOSE

    def _leave(self, rows: _Rows, codes: Tensor, told: Tensor) -> _Rows:
        """Let samples that are done leave, and those that have failed."""
        going = told <= REFRESH
        if bool(going.all()):
            return rows
        ended = tree_map(lambda leaf: leaf[codes > REFRESH], rows) if bool(going.any()) else rows
        good = codes[codes > REFRESH] == DONE
        self.converged[ended.samples.cpu()] = good.cpu()
        u = torch.where(good[:, None, None], ended.u + ended.delta, torch.nan)
        self.ended.append(ended._replace(u=u))
        self.whole = False
        rest: _Rows = tree_map(lambda leaf: leaf[codes <= REFRESH], rows)
        return rest

    def _gather(self, rows: _Rows, safe: Tensor) -> Root:
        """All samples again, in order; those that are still going did not converge."""
        parts = [*self.ended, rows]
        order = torch.argsort(torch.cat([part.samples for part in parts]))
        u, factors, pivots = (
            torch.cat([getattr(part, name) for part in parts])[order] for name in ("u", "factors", "pivots")
        )
        inverse = Factorised(factors, pivots) if self.factorises else None
        return Root(u, self.evaluations, self.converged, inverse, self.differentiable)


def implicit(newton: Newton, g: Map, base: Tensor, a: Tensor, root: Root, eps: float) -> tuple[Tensor, Inverse | None]:
    """The root as a function of `base` and whatever else g depends on: one Newton step from it, M constant.

    With M = 1 − a ∂g/∂z at the root, u − M⁻¹ (u − g(base + a u)) has the root's derivative, which the implicit function
    theorem gives, and is nearer to the root. One evaluation of g. Samples that did not converge stay out of the graph.

    Returns:
        The root, `(batch, stages, n)`, and M⁻¹, None if some samples are left out.
    """
    index = None if bool(root.converged.all()) else root.converged.nonzero()[:, 0].to(base.device)
    u, start = (v if index is None else v[index] for v in (root.u, base))
    z = start[:, None] + torch.einsum("ij,bjn->bin", a, u)
    if not z.requires_grad:
        z.requires_grad_()
    at = Linearisation(z, g(z, index))
    inverse = newton.inverse(at, a, eps**EXACT)
    found = u - solved(u - at.value, inverse)
    if index is None:
        return found, inverse
    return root.u.index_copy(0, index, found), None


def _rms(v: Tensor) -> Tensor:
    """The root mean square of each sample, `(rows,)`."""
    return v.flatten(1).square().mean(1).sqrt()
