"""Station: the right-hand side of a stochastic equation, looked at once: does its diffusion keep to its noise?"""

from __future__ import annotations

from typing import cast
from weakref import WeakSet

import torch

from ..brownian import Grid
from ..errors import InputError
from ..states import each, leaves
from ..types import State, Tensor
from .base import Term
from .converted import Converted
from .derivative import pulled
from .replay import Untracked, tracking
from .sde import SDETerm
from .stochastic import Stochastic

__all__ = ["check_noise"]

_seen: WeakSet[Term] = WeakSet()
"""Terms that have been looked at."""


def check_noise(term: Term, drawn: Term, y0: State, grid: Grid, relied: bool) -> None:
    """Refuse noise that a state has no room for, and a diffusion that depends on more than its noise allows.

    Additive noise is looked at always, for by it Itô's and Stratonovich's equations are one; diagonal noise where a
    solver or `Converted` relies on g_i depending on y_i alone, which others do not. Looked at is the derivative at the
    start, by one more evaluation of the diffusion, once for each term; what shows later only is not seen.

    Args:
        term: the term, by which it is known again.
        drawn: the same with its path drawn.
        y0: the state at the start.
        grid: the times of the solve.
        relied: whether a solver relies on the noise being diagonal.

    Raises:
        InputError: what the noise is said to be, what it is, what to say instead.
    """
    if not isinstance(drawn, Stochastic):
        return
    name = type(term).__name__
    if isinstance(y0, tuple) and (drawn.noise == "scalar" or drawn.channels is not None):
        raise InputError(
            f"{name} got a tuple as its state and {drawn.noise} noise, which moves one tensor; use diagonal noise, or "
            "a state of one tensor"
        )
    additive = drawn.noise == "additive" and isinstance(drawn, SDETerm)
    diagonal = drawn.noise == "diagonal" and (relied or isinstance(drawn, Converted))
    if not (additive or diagonal) or term in _seen or torch.compiler.is_compiling():
        return
    start, end = grid.times[0], grid.times[1]
    sde = cast(Stochastic, drawn.over(start, end)) if grid.fixed else drawn
    plain, weighted, weights = _pulled(sde, start, y0)
    if additive and any(bool((pull.abs() > 0).any()) for pull in weighted):
        raise InputError(
            f"{name} says that its noise is additive, and its diffusion depends on the state, so that Itô's and "
            "Stratonovich's equations differ; say noise='diagonal', 'scalar', or 'general' with channels=…"
        )
    if diagonal and not all(map(_own, plain, weighted, weights)):
        raise InputError(
            f"{name} says that its noise is diagonal, and its diffusion of one number depends on others, too, which "
            "breaks what this solver or Converted relies on; use a solver for general noise (Euler for Itô's calculus, "
            "Heun for Stratonovich's), scalar noise, or general noise with channels=…"
        )
    _seen.add(term)


def _pulled(sde: Stochastic, t: float, y: State) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], list[Tensor]]:
    """Jᵀ1, Jᵀw and some w, with J the derivative of the diffusion; no generator, buffer or gradient is touched."""
    first = leaves(y)[0]
    devices = [first.device] if first.is_cuda else []
    tracked = Untracked(tracking(sde.modules()))
    with torch.random.fork_rng(devices), tracked, torch.inference_mode(False), torch.enable_grad():
        inputs = each(lambda leaf: leaf.detach().clone().requires_grad_(), y)
        values = leaves(sde.diffusion(t, inputs))
        generator = torch.Generator().manual_seed(0)
        weights = [torch.randn(value.shape, generator=generator).to(value) for value in values]
        plain = pulled(values, inputs, [torch.ones_like(value) for value in values], create_graph=False)
        return plain, pulled(values, inputs, weights, create_graph=False), weights


def _own(plain: Tensor, weighted: Tensor, weight: Tensor) -> bool:
    """Whether a derivative is diagonal, up to rounding: then weights pass through it one by one."""
    off = (weighted - weight * plain).abs()
    return not bool((off > torch.finfo(off.dtype).eps ** 0.5 * weighted.abs().amax()).any())
