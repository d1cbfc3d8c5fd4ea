"""Station: the right-hand side with noise as published: a random value of the field in each step."""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from ..brownian import Grid, lasting_stream, next_stream
from ..errors import InputError, ShapeError
from ..states import as_float
from ..types import FieldFn, Hook, State, Tensor, Time
from .base import Term, innermost, nested
from .layered import Layered
from .noisy import Source, evaluated_by
from .ode import OrdinaryTerm

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Perturbed", "depth_of"]


class Perturbed(OrdinaryTerm):
    """A term whose field has a random value in each step, the same at all stages of the solver; its mean in evaluation.

    What is drawn is drawn once per solve, for each step of a fixed grid (or each interval that the noise itself has),
    and found again by the ends of the step. The noise is innermost: whatever counts, guards or replays evaluations sees
    the perturbed field.

    Args:
        term: `Layered` or `ODETerm`, or one of these with noise.
        source: where the noise comes from, a `NoiseRegularizer`.

    Raises:
        InputError: from `drawn`, where steps are measured and the noise has no intervals of its own.
        ShapeError: from `drawn`, for a state of several tensors.
    """

    inner: Term

    def __init__(self, term: Term, source: Source) -> None:
        super().__init__()
        self.source, self.inner = source, evaluated_by(term, source)
        own = source.cell(0.0) is not None
        self.continuous, self.layered = own and term.continuous, is_layered(term)
        self.grid: tuple[float, ...] = ()
        self.numbers: Tensor | None = None  # (batch, cells, draws and lasting, *noise)
        self.calm = True  # whether the field has its mean, not a random value

    def drawn(self, y0: State, grid: Grid, area: int) -> Self:
        """The term with its numbers drawn for one solve."""
        inner = self.inner.drawn(y0, grid, area)
        calm, times = not (self.training or self.source.at_test), tuple(sorted(grid.times))
        view = self._replace(_modules={"inner": inner}, calm=calm, grid=times)
        if calm:
            return view
        if self.source.cell(0.0) is None and not grid.fixed:
            raise InputError(
                f"{type(self.source).__name__} draws noise for each step of a fixed grid, and this solve chooses its "
                "steps; use fixed steps, RandomBatch(…), or noise='gaussian' with a Brownian motion for any interval"
            )
        view.numbers = self._draw(_only(y0, self.source), self._cells(times))
        return view

    def over(self, t0: Time, t1: Time) -> Term:
        """The term over the step, with the step's noise in its fields, and the other hooks around."""
        term = self.inner.over(t0, t1).wrap(self._noise(t0, t1))
        return term if self.hook is None else term.wrap(self.hook)

    def vf(self, t: Time, y: State) -> State:
        """The field in the step that begins at `t`."""
        end = t if self.source.cell(0.0) is not None else next((s for s in self.grid if s > as_float(t)), t)
        value: State = self.over(t, end).vf(t, y)
        return value

    def jumps(self, low: float, high: float) -> tuple[float, ...]:
        """The term's jumps, and the ends of the noise's own intervals."""
        return tuple(sorted({*self.inner.jumps(low, high), *self.source.edges(low, high)}))

    def rows(self, index: Tensor) -> Self:
        """The term and the noise of the samples `index` alone."""
        several = self.numbers is not None and len(self.numbers) > 1  # else there is one for the whole batch
        numbers = self.numbers[index] if self.numbers is not None and several else self.numbers
        return self._replace(_modules={"inner": self.inner.rows(index)}, numbers=numbers)

    def tensors(self, t0: Time, t1: Time) -> tuple[Tensor, ...]:
        """Those of the term."""
        return self.inner.tensors(t0, t1)

    def wrap(self, hook: Hook) -> Self:
        """The same term with `hook` around its perturbed fields."""
        return self._replace(hook=nested(hook, self.hook))

    def _draw(self, y: Tensor, cells: int) -> Tensor:
        like, draws = self.source.like(y), self.source.draws
        whole = len(like) != len(y)  # one draw for the whole batch, on whatever process
        stream = next_stream().shared() if whole else next_stream(self.source.key)
        draw = stream.uniform if self.source.law == "uniform" else stream.normal
        numbers = draw(cells * draws, like)
        own = numbers.reshape(len(numbers), cells, draws, *numbers.shape[2:])
        if not self.source.lasting:
            return own
        lasting = lasting_stream(self.source.key)
        kept = (lasting.shared() if whole else lasting).uniform(self.source.lasting, like)
        return torch.cat((own, kept[:, None].expand(-1, cells, *kept.shape[1:])), 2)

    def _cells(self, times: tuple[float, ...]) -> int:
        last = self.source.cell(times[-1])
        return len(times) - 1 if last is None else last - cast(int, self.source.cell(times[0])) + 1

    def _found(self, numbers: Tensor, t0: Time, t1: Time) -> tuple[Tensor, ...]:
        """The numbers of a step: `draws` tensors of the shape of the noise."""
        if not (isinstance(t0, Tensor) and t0.numel() > 1):
            return numbers[:, self._cell(t0, t1)].unbind(1)
        middles = (0.5 * (t0 + t1)).flatten().tolist()
        cells = torch.tensor([self._cell(middle, middle) for middle in middles], device=numbers.device)
        return numbers[torch.arange(len(cells), device=numbers.device), cells].unbind(1)

    def _cell(self, t0: Time, t1: Time) -> int:
        """Which of them are those of a step."""
        middle = 0.5 * (as_float(t0) + as_float(t1))
        own = self.source.cell(middle)
        if own is not None:
            return own - cast(int, self.source.cell(self.grid[0]))
        return max(min(bisect_right(self.grid, middle), len(self.grid) - 1) - 1, 0)

    def _noise(self, t0: Time, t1: Time) -> Hook:
        """The step's noise, as a hook around the bare field."""
        source, depth = self.source, depth_of(self.layered, self.grid, t0, t1)
        if self.calm or self.numbers is None:
            return lambda field, t, y: source.moments(cast(Tensor, field(t, y)), cast(Tensor, y), depth).f
        numbers = self._found(self.numbers, t0, t1)
        share = 1.0 if source.scaling == "ode" else abs(as_float(t1) - as_float(t0)) ** -0.5
        left_out = share == 1.0 and source.skips(numbers, depth)  # a value, which no graph of the step may look at

        def perturbed(field: FieldFn, t: Time, y: State) -> State:
            state = cast(Tensor, y)
            if left_out:
                return _touched(field, state)
            value = cast(Tensor, field(t, state))
            random = source.perturbed(value, state, numbers, depth)
            if share == 1.0:
                return random
            mean = cast(Tensor, source.moments(value, state, depth).f)
            return mean + share * (random - mean)

        return perturbed


def is_layered(term: Term) -> bool:
    """Whether the depth of a term is counted in layers."""
    return isinstance(term, Layered) or (isinstance(term, Perturbed) and term.layered)


def depth_of(layered: bool, grid: tuple[float, ...], t0: Time, t1: Time) -> float:
    """How far the end of a step, or of its layer, is on the way from the first time to the last: in (0, 1]."""
    if not grid or (isinstance(t0, Tensor) and t0.numel() > 1):  # there noise is alike at any depth
        return 1.0
    start, end = sorted((as_float(t0), as_float(t1)))
    reached = math.floor(0.5 * (start + end)) + 1.0 if layered else end
    return min((reached - grid[0]) / (grid[-1] - grid[0]), 1.0)


def _touched(field: FieldFn, y: Tensor) -> Tensor:
    """Zero, and a gradient of zero for each parameter: no rank waits for the gradient of a layer that it left out."""
    module, zero = innermost(field), torch.zeros_like(y)
    if not (isinstance(module, nn.Module) and torch.is_grad_enabled()):
        return zero
    return zero + 0.0 * sum((p.sum() for p in module.parameters() if p.requires_grad), torch.zeros((), dtype=y.dtype))


def _only(y0: State, source: Source) -> Tensor:
    if isinstance(y0, tuple):
        raise ShapeError(
            f"{type(source).__name__} got a state of {len(y0)} tensors; it goes with states of one tensor, and with "
            "the halves of Partitioned terms"
        )
    return y0
