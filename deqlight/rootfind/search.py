"""Station: where a residual vanishes. The iteration: every sample tries, is judged, and leaves when it is done."""

from __future__ import annotations

from typing import NamedTuple

import torch

from ..linear import Factorised, Krylov, Linearisation
from ..states import tree_map
from ..types import Tensor
from .newton import FRACTION, Map, Newton, Root

__all__ = ["Search"]

PATIENCE = 2
"""A Jacobian that would not do in so many more iterations is renewed."""

STALLED = 0.5
"""Corrections that shrink less than by this, with a new Jacobian and close to the root, are rounding."""

GRADE, LEAST = 4.0, 1 / 256
"""Factor that damping changes by; where it would fall below the other, the Jacobian is singular near by: jump."""

ROUNDING, FLOOR = 10.0, 4.0
"""Corrections, in units of eps, that end an iteration down to rounding; that no tolerance can go below."""

NEAR, CLOSE = 0.5, 30.0
"""How near the root is where rounding may stop an iteration: eps to this power; so many tolerances."""

FORCING = 1e-4
"""Relative residual of GMRES in an iteration."""

GO, REFRESH, DONE, FAILED = 0, 1, 2, 3
"""What becomes of a sample after an evaluation: REFRESH goes on with a new factorisation."""


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


def _rms(v: Tensor) -> Tensor:
    """The root mean square of each sample, `(rows,)`."""
    return v.flatten(1).square().mean(1).sqrt()
