"""Station: the guests' door. What deqlight itself brings, through the hooks that everybody else uses."""

from __future__ import annotations

from inspect import isabstract
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .spec import API, impl

if TYPE_CHECKING:
    from torch import nn

    from ..controllers import Controller
    from ..gradients import Gradient
    from ..regularizers import Cost, Regularizer
    from ..solvers import Solver

__all__ = [
    "DEQLIGHT_API",
    "deqlight_configs",
    "deqlight_controllers",
    "deqlight_costs",
    "deqlight_fields",
    "deqlight_gradients",
    "deqlight_regularizers",
    "deqlight_solvers",
]

DEQLIGHT_API = API


@impl
def deqlight_solvers() -> list[type[Solver]]:
    """The integrators of `deqlight.solvers`."""
    from .. import solvers

    return _choices(solvers, solvers.Solver)


@impl
def deqlight_gradients() -> list[type[Gradient]]:
    """The gradient methods of `deqlight.gradients`."""
    from .. import gradients

    return _choices(gradients, gradients.Gradient)


@impl
def deqlight_controllers() -> list[type[Controller]]:
    """The step controllers of `deqlight.controllers`."""
    from .. import controllers

    return _choices(controllers, controllers.Controller)


@impl
def deqlight_regularizers() -> list[type[Regularizer]]:
    """The regularisers of `deqlight.regularizers`."""
    from .. import regularizers

    return _choices(regularizers, regularizers.Regularizer)


@impl
def deqlight_costs() -> list[type[Cost]]:
    """The costs of `deqlight.regularizers`."""
    from .. import regularizers

    return _choices(regularizers, regularizers.Cost)


@impl
def deqlight_fields() -> list[type[nn.Module]]:
    """The vector fields of `deqlight.fields`."""
    from torch import nn

    from .. import fields

    return _choices(fields, nn.Module)


@impl
def deqlight_configs() -> list[Path]:
    """The shipped experiments: inside the package once installed, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    return [folder for folder in (package / "configs", package.parent / "configs") if folder.is_dir()][:1]


def _choices(module: ModuleType, base: Any) -> list[Any]:
    """The public classes that can be chosen: a class is abstract or final here, so they are the leaves."""
    public = [getattr(module, name) for name in module.__all__]
    found = [thing for thing in public if isinstance(thing, type) and issubclass(thing, base)]
    bases = {parent for cls in found for parent in cls.__mro__[1:]}
    return [cls for cls in found if cls not in bases and not isabstract(cls)]
