"""Station: between a network and a likelihood: the log-density of data by the probability flow, sample by sample.

Along the flow dy/dρ = ε the density changes by d log p/dρ = −div ε. From the clean end 0 to the noisy end 1,

  log p(x) = log N(x₁; 0, prior_std²) + ∫ div ε dρ + d log(α₁/α₀),

d numbers a sample. It is solved in the angle θ = atan(ρ/c) and in u = y/√(c² + ρ²) (see `Angular`), where data of
deviation c hardly move: half the evaluations of a solve in ρ or in log ρ.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from ..controllers import PID, Controller
from ..errors import InputError, ShapeError
from ..gradients import Direct, Gradient
from ..saveat import SaveAt
from ..schedules import Schedule
from ..solvers import Dopri5, Solver
from ..solving import solve
from ..states import leaves
from ..terms import Denoising, ODETerm
from ..terms.angular import Angular
from ..terms.augmented import Augmented
from ..types import FieldFn, State, Tensor, Time
from .trace import Exact, Trace

__all__ = ["bits_per_dim", "log_likelihood"]


def log_likelihood(
    field: FieldFn | nn.Module,
    schedule: Schedule,
    x: Tensor,
    *,
    solver: Solver = Dopri5(),  # noqa: B008  a frozen value
    controller: Controller = PID(1e-5, 1e-5),  # noqa: B008  a frozen value
    trace: Trace = Exact(),  # noqa: B008  a frozen value
    data_std: float = 1.0,
    gradient: Gradient | None = None,
) -> Tensor:
    """The log-density that a diffusion model has at each of `x`, at the clean end of its schedule, `(batch,)`.

    It is the density of what the probability flow makes of N(0, `prior_std`²) at the noisy end. The clean end has a
    little noise, ρ₀: what is told is the density of α₀ (x₀ + ρ₀ ε). No graph is made unless a gradient rule is given.

    Args:
        field: `(ρ, y) -> ε`, the estimated noise in y = x/α, as of `Denoising`; ρ is a float, or `(batch, 1, …)`.
        schedule: whose ends, α and prior there are.
        x: points at the clean end, `(batch, *state)`.
        solver: any for ordinary equations. With the controller, the default is the published setting.
        controller: its steps, from end to end: `PID`, for which the divergence counts too; `Constant`, even in θ.
        trace: how the divergence is found: `Exact`, or `Hutchinson`, whose directions are drawn by the key in force.
        data_std: c, about the standard deviation of x₀: 0.5 for images between −1 and 1. Another one costs steps alone.
        gradient: how autograd goes through, such as `Direct()`; None makes no graph.

    Returns:
        The log-densities in nats, in float64. Bits a dimension: `bits_per_dim`.

    Raises:
        ShapeError: for x without a batch or a state axis.
        InputError: for a deviation that is not positive and finite; for a sampler as the solver, and what does not go
            together in a solve; for a field whose value is cut off from y.
        SolverFailure: as from `solve`.

    Reference: Song et al., Score-Based Generative Modeling through SDEs, ICLR 2021 (arXiv 2011.13456), section 4.3 and
    appendix D.2; Chen et al., Neural Ordinary Differential Equations, NeurIPS 2018 (arXiv 1806.07366), theorem 1.

    >>> from deqlight.gaussians import Gaussian
    >>> from deqlight.schedules import EDM
    >>> target, x = Gaussian([0.0], [[1.0]]), torch.zeros(1, 1, dtype=torch.float64)
    >>> round(float(log_likelihood(target.eps, EDM(), x)), 2), round(-0.5 * math.log(2 * math.pi), 2)
    (-0.92, -0.92)
    """
    _check(x, data_std, solver)
    flow = Angular(Denoising(field, schedule), data_std).wrap(_connected)
    ends = schedule.rho_ends[::-1]
    sizes = [schedule.scale(rho) * flow.size(rho) for rho in ends]  # x is so many times u there
    with torch.set_grad_enabled(gradient is not None):
        rates = trace.rates(create_graph=gradient is not None)
        u0, angles = x / sizes[0], [flow.angle(rho) for rho in ends]
        term, start = Augmented(flow, rates, single=True), (u0, *(u0.new_zeros(len(x), 1) for _ in rates))
        rule, last = gradient or Direct(), SaveAt(final=True)
        y1 = solve(term, start, angles, solver=solver, controller=controller, gradient=rule, saveat=last).y1
        u1, *grown = (leaf.double().flatten(1) for leaf in leaves(y1))
        there = _log_normal(u1, schedule.prior_std / sizes[1])
        return there + torch.stack(grown).mean(0)[:, 0] - u1.shape[1] * math.log(sizes[0])


def bits_per_dim(log_likelihood: Tensor, dims: int, width: float = 2 / 256) -> Tensor:
    """Bits that a number of the data costs, −log₂ p(bin)/d, by the density times the width of the bins.

    Of levels that were dequantised: uniform noise as wide as a level was added before the density was taken, so that
    the mean over the noise is an upper bound of what the levels themselves cost. 256 levels on [−1, 1], as
    2 (level + noise)/256 − 1, have the width 2/256, and an offset of −log₂ width = 7 bits; level/127.5 − 1 makes
    it 2/255, and [0, 1] makes it 1/256. Another width for the same log-density is another number: state it.

    Args:
        log_likelihood: log-densities in nats, of any shape.
        dims: d, how many numbers a sample has: channels · height · width of images.
        width: of a bin, in the units of the density; 1 tells the bits of a density without levels.

    Raises:
        InputError: for no dimension, and a width that is not positive and finite.

    Reference: Theis, van den Oord & Bethge, A Note on the Evaluation of Generative Models, ICLR 2016 (arXiv
    1511.01844), section 3.1; Song et al., arXiv 2011.13456, whose offset is 7.

    >>> float(bits_per_dim(torch.tensor(0.0), dims=3))
    7.0
    """
    if dims < 1 or not 0 < width < math.inf:
        raise InputError(f"bits_per_dim got dims={dims}, width={width}; at least one, and above 0")
    return -log_likelihood / (dims * math.log(2)) - math.log2(width)


def _log_normal(x: Tensor, std: float) -> Tensor:
    """The log-density of N(0, std²) in all dimensions, `(batch,)`."""
    return -0.5 * (x / std).square().sum(1) - x.shape[1] * (math.log(std) + 0.5 * math.log(2 * math.pi))


def _connected(field: FieldFn, t: Time, y: State) -> State:
    """The field's value, where it has a derivative by y: without one the trace would be that of nothing, silently."""
    value = field(t, y)
    if any(leaf.requires_grad for leaf in leaves(y)) and not any(leaf.requires_grad for leaf in leaves(value)):
        raise InputError(
            "log_likelihood got a field whose value is cut off from y, so that it has no divergence; leave out no_grad "
            "and detach inside the field"
        )
    return value


def _check(x: Tensor, data_std: float, solver: Solver) -> None:
    if not isinstance(x, Tensor) or x.dim() < 2 or not x.is_floating_point():
        got = f"a tensor {tuple(x.shape)} of {x.dtype}" if isinstance(x, Tensor) else type(x).__name__
        raise ShapeError(f"log_likelihood got {got}; it needs points (batch, *state) of floats, such as (batch, 2)")
    if not 0 < data_std < math.inf:
        raise InputError(f"log_likelihood got data_std={data_std}; it must be positive and finite, about that of x")
    if isinstance(solver, Solver) and not issubclass(ODETerm, solver.info.terms):
        kinds = " or ".join(kind.__name__ for kind in solver.info.terms)
        raise InputError(
            f"log_likelihood got {solver!r}, which integrates {kinds}, and the density changes by an ordinary equation "
            "of its own; take Dopri5() or Heun(), or RK4() with Constant(steps=…)"
        )
