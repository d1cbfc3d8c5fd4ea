"""Station: the guests' door. Every hook that a plugin may implement; there are no others.

A hook takes nothing, returns classes and changes nothing: so the host knows whose each class is, and a faulty plugin
can be sent away whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pluggy import HookimplMarker, HookspecMarker

if TYPE_CHECKING:
    from torch import nn

    from ..controllers import Controller
    from ..gradients import Gradient
    from ..regularizers import Cost, Regularizer
    from ..solvers import Solver

__all__ = ["API", "BASES", "CONFIGS", "NAME", "impl"]

NAME = "deqlight"
"""The entry-point group, and the prefix of every hook."""

API = (1, 1)
"""(major, minor) of what stands below. A plugin may state the one it was written for as `DEQLIGHT_API`."""

BASES = {
    "deqlight_solvers": "deqlight.solvers:Solver",
    "deqlight_gradients": "deqlight.gradients:Gradient",
    "deqlight_controllers": "deqlight.controllers:Controller",
    "deqlight_regularizers": "deqlight.regularizers:Regularizer",
    "deqlight_costs": "deqlight.regularizers:Cost",
    "deqlight_fields": "torch.nn:Module",
}
"""The base class of what each hook returns, as text: it is imported only where a class has to be checked."""

CONFIGS = "deqlight_configs"
"""The one hook that returns folders, not classes."""

impl = HookimplMarker(NAME)
"""Marks a function of a plugin as one of the hooks below."""

_spec = HookspecMarker(NAME)


@_spec
def deqlight_solvers() -> Iterable[type[Solver]]:
    """Integrators: concrete subclasses of `deqlight.solvers.Solver`, each with an `info` that says what it claims.

    A solver is at once an architecture (on layered blocks) and a neural-ODE solver (on a shared field).
    """
    return ()


@_spec
def deqlight_gradients() -> Iterable[type[Gradient]]:
    """Gradient methods: concrete subclasses of `deqlight.gradients.Gradient`."""
    return ()


@_spec
def deqlight_controllers() -> Iterable[type[Controller]]:
    """Step controllers: concrete subclasses of `deqlight.controllers.Controller`."""
    return ()


@_spec
def deqlight_regularizers() -> Iterable[type[Regularizer]]:
    """Regularisers: concrete subclasses of `deqlight.regularizers.Regularizer`, changes of the equation in training."""
    return ()


@_spec
def deqlight_costs() -> Iterable[type[Cost]]:
    """Costs: concrete subclasses of `deqlight.regularizers.Cost`, which are charged along a solve."""
    return ()


@_spec
def deqlight_fields() -> Iterable[type[nn.Module]]:
    """Vector fields: `torch.nn.Module`s called as `field(t, y)`, whose result is shaped as `y`."""
    return ()


@_spec
def deqlight_configs() -> Iterable[Path]:
    """Folders of YAML; what lies in `FOLDER/experiment/NAME.yaml` is found as `deqlight fit -c NAME`."""
    return ()
