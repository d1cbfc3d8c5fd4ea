"""Station: the network. From noise to samples: a schedule, a grid, a solver and what guides it, joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias, cast

from ..brownian import Increments, Key, keyed, next_stream
from ..controllers import AdaptiveSteps
from ..errors import InputError, check_word
from ..gradients import Direct
from ..saveat import SaveAt
from ..schedules import FlowTime, Grid, Schedule
from ..solution import Solution
from ..solvers import DenoisingSolver, Solver
from ..solving import check_compatible, solve
from ..terms import Denoising, Noised, ODETerm, ReverseSDE, Term
from ..types import FieldFn, State, Tensor, Time
from .denoiser import Denoiser
from .guidance import ClassifierFree, Guidance, Labelled
from .threshold import Threshold

__all__ = ["Sampler", "Samples", "Variable"]

Variable: TypeAlias = Literal["rho", "t"]
"""What is solved in: the noise ρ, by `Denoising` or `ReverseSDE`; or the schedule's time, by the velocity dx/dt."""


class Samples(NamedTuple):
    """What a sampler gives."""

    x: Tensor
    """The samples, `(batch, *state)`, as the network was trained on them."""
    nfe: Tensor
    """Evaluations of the network for each, `(batch,)`."""


@dataclass(frozen=True)
class Sampler:
    """How a generator is sampled: every solver of ordinary equations does it, and those made for it.

    Args:
        solver: the integrator. Those that draw noise solve `ReverseSDE`, the others the probability flow, unless `eta`.
        steps: how many, on a fixed grid.
        grid: where they are, in ρ; None takes the solver's own, which was the best for it on flows that are known, or
            `FlowTime()` for solvers that have none; where the time is solved in, even steps of it.
        schedule: how much noise is where; None takes what the network was trained with.
        controller: measures the steps, `PID(rtol, atol)`, in the place of `steps` and `grid`.
        guidance: how much classes are heeded; None tells the network of them, and no more.
        threshold: where data estimates are kept, for pixels.
        eta: for solvers of any stochastic equation: how much noise is drawn and taken away again; see `ReverseSDE`.
        variable: what is solved in; `t` for flows, which begin where there is nothing but noise.

    Raises:
        InputError: for no steps; for a grid where steps are measured, or the time is solved in; for noise or a
            threshold without ρ; for a solver that integrates nothing of the kind, that has a number of its own for
            `eta`, or that needs steps of one length where ρ is solved in.
    """

    solver: Solver
    steps: int = 20
    grid: Grid | None = None
    schedule: Schedule | None = None
    controller: AdaptiveSteps | None = None
    guidance: Guidance | None = None
    threshold: Threshold | None = None
    eta: float = 0.0
    variable: Variable = "rho"

    def __post_init__(self) -> None:
        check_word("Sampler", "variable", self.variable, ("rho", "t"))
        if self.steps < 1 or not self.eta >= 0.0:
            raise InputError(f"Sampler got steps={self.steps}, eta={self.eta}; it needs at least 1 step, and 0 or more")
        if self.grid is not None and (self.controller is not None or self.variable == "t"):
            raise InputError(
                "Sampler got a grid, which is of ρ and fixed, and "
                + ("a controller" if self.controller is not None else "variable='t'")
                + "; give one of them"
            )
        if self.variable == "t" and (self.eta or self.threshold is not None):
            raise InputError(
                f"Sampler got eta={self.eta}, threshold={self.threshold} and variable='t'; both work in ρ: "
                "variable='rho'"
            )
        self._check_solver()
        check_compatible(self._term(_nothing, None), self.solver, self.controller, Direct())

    def __call__(self, denoiser: Denoiser, noise: Tensor, classes: Tensor | None = None) -> Samples:
        """Samples that are a function of noise, and of the stream of the key in force if the solver draws more.

        Args:
            denoiser: the network.
            noise: standard normal numbers, `(batch, *state)`.
            classes: what each is to be of, `(batch,)`; None says nothing.

        Raises:
            InputError: for a solve in time between noise alone and data alone, but by a network that tells v or
                velocity.
            SolverFailure: as from `solve`.
        """
        schedule = self.schedule or denoiser.schedule
        if self.variable == "t":
            first, last = schedule.ends
            _check_ends(denoiser, schedule)
            x0 = noise * schedule.prior_std
            solution = self._solved(ODETerm(self._field(denoiser.velocity, classes)), x0, self._times(last, first))
            return Samples(cast(Tensor, solution.y1), solution.stats.nfe)
        levels = self.levels(schedule)
        field = self._field(denoiser.eps, classes)
        term = self._term(field if self.threshold is None else self.threshold.around(field), schedule)
        y0 = noise * (schedule.prior_std / schedule.scale(levels[0]))
        solution = self._solved(term, y0, levels)
        return Samples(cast(Tensor, solution.y1) * schedule.scale(levels[-1]), solution.stats.nfe)

    def drawn(
        self, denoiser: Denoiser, shape: Sequence[int], key: Key, count: int, classes: Tensor | None = None
    ) -> Samples:
        """So many samples by a key: sample `ids[i]`, or i, is the same in any batch, on any number of processes.

        Args:
            denoiser: the network; samples are made on its device, in its dtype.
            shape: of one sample.
            key: what they are a function of.
            count: how many.
            classes: what each is to be of, `(count,)`; None says nothing.
        """
        with keyed(key):
            blank = next(denoiser.parameters()).new_empty(count, *shape)
            return self(denoiser, next_stream().normal(1, blank)[:, 0], classes)

    def levels(self, schedule: Schedule) -> list[float]:
        """ρ at the ends of steps, falling; where they are measured, at both ends."""
        if self.controller is not None:
            return list(schedule.rho_ends)
        return (self.grid or _best(self.solver)).times(schedule, self.steps)

    def _check_solver(self) -> None:
        """Refuse what cannot sample, or not so; of itself, `solve` would say what it integrates, and not what to do."""
        if not isinstance(self.solver, Solver):
            raise InputError(f"Sampler got solver={self.solver!r}; it needs a Solver, such as DPMpp2M()")
        kinds, term = self.solver.info.terms, type(self._term(_nothing, None))
        if self.solver.info.derivative != 1:
            raise InputError(
                f"Sampler got {self.solver!r}, whose field is an acceleration, and the network tells a velocity; take "
                f"a solver of {OTHERS}"
            )
        if self.variable == "rho" and self.solver.info.uniform_steps:
            raise InputError(
                f"Sampler got {self.solver!r}, which needs steps of one length, and levels of noise are not; solve in "
                "the schedule's time, variable='t', or take a solver for unequal steps: AB2, Heun, DPMpp2M"
            )
        if self.eta and all(issubclass(kind, Noised) for kind in kinds):
            raise InputError(
                f"Sampler got {self.solver!r} and eta={self.eta:g}, which is for solvers of any stochastic equation, "
                "such as SRK; this one has options of its own: leave eta out"
            )
        if not issubclass(term, kinds):
            raise InputError(
                f"Sampler got {self.solver!r}, which integrates {' or '.join(kind.__name__ for kind in kinds)}, and "
                f"with variable={self.variable!r}, eta={self.eta:g} samples are made of {term.__name__}; take a solver "
                f"of {'ordinary equations (Heun, RK4, Dopri5)' if self.variable == 't' else OTHERS}"
            )

    def _term(self, field: FieldFn, schedule: Schedule | None) -> Term:
        if self.variable == "t":
            return ODETerm(field)
        if self.eta or not issubclass(Denoising, self.solver.info.terms):
            return ReverseSDE(field, schedule, eta=self.eta or 1.0, brownian=Increments())
        return Denoising(field, schedule)

    def _field(self, field: Labelled, classes: Tensor | None) -> Labelled:
        if classes is None:
            return field
        return (self.guidance or ClassifierFree()).guide(field, classes)

    def _times(self, first: float, last: float) -> list[float]:
        if self.controller is not None:
            return [first, last]
        return [first + (last - first) * k / self.steps for k in range(self.steps)] + [last]

    def _solved(self, term: Term, y0: Tensor, ts: list[float]) -> Solution:
        last = SaveAt(final=True)  # a thousand steps of images would fill the memory
        return solve(term, y0, ts, solver=self.solver, controller=self.controller, max_steps=MOST, saveat=last)


OTHERS = "ordinary equations (Heun, Dopri5), of stochastic ones (SRK), or made for it (DPMpp2M, UniPC, DDPM)"

MOST = 100_000
"""Steps that a sampler may take at most."""


def _check_ends(denoiser: Denoiser, schedule: Schedule) -> None:
    """Refuse to go from where x is noise alone to where it is data alone by what does not tell of the other there."""
    clean, noisy = schedule.ends
    for t, nothing, enough in (
        (noisy, schedule.alpha(noisy) == 0, ("x0", "v", "velocity")),
        (clean, schedule.sigma(clean) == 0, ("eps", "score", "v", "velocity")),
    ):
        if nothing and denoiser.prediction not in enough:
            raise InputError(
                f"Sampler got variable='t' and a network that tells {denoiser.prediction!r}, of which no velocity "
                f"follows at t = {t:g}, where x is noise or data alone by {schedule!r}; solve in variable='rho', or "
                "train one that tells v or velocity"
            )


def _best(solver: Solver) -> Grid:
    return solver.grid if isinstance(solver, DenoisingSolver) else FlowTime()


def _nothing(t: Time, y: State) -> State:
    return y
