"""Station 0, the words: tensor aliases and the glossary of shapes.

Shapes are written `(batch, *state)`: axis 0 of a state is the batch, everything after it belongs to one sample.
`ys` puts time first: `(time, batch, *state)`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from torch import Tensor

__all__ = ["VF", "Calculus", "Carry", "Control", "FieldFn", "Hook", "Noise", "State", "Tensor", "Time", "Weight"]

State: TypeAlias = Tensor | tuple[Tensor, ...]
"""What is integrated: a tensor `(batch, *state)`, or a flat tuple of such tensors."""

Time: TypeAlias = float | Tensor
"""A Python float where all samples share a clock; else a tensor `(batch, 1, …)` with the axes of the first leaf."""

Weight: TypeAlias = float | Tensor
"""A coefficient of an integrator: a Python float, or a 0-d tensor where it is learnt."""

VF: TypeAlias = Any
"""What `Term.vf` returns: a `State` for an ODE."""

Control: TypeAlias = Any
"""What `Term.control` returns: the step `t1 - t0` for an ODE."""

Carry: TypeAlias = Any
"""A solver's memory between steps: tensors and Python numbers in (named) tuples, or None."""

FieldFn: TypeAlias = Callable[[Time, State], State]
"""A vector field `(t, y) -> dy/dt`; usually an `nn.Module`."""

Hook: TypeAlias = Callable[[FieldFn, Time, State], State]
"""Stands around every call of a vector field: `hook(field, t, y)` returns what `field(t, y)` would."""

Noise: TypeAlias = Literal["additive", "diagonal", "scalar", "general"]
"""How a diffusion acts: without the state; number by number; all by one Brownian motion; by a matrix."""

Calculus: TypeAlias = Literal["ito", "stratonovich"]
"""In which sense g dW is meant."""
