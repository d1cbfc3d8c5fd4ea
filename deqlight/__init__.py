"""deqlight: depth is time. Train neural networks inspired by differential equations, with any integrator.

Names are loaded when they are first used, so that `import deqlight` costs nothing and never imports lightning.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .cli.load import load
    from .compiling import Compile
    from .errors import DeqlightError, InputError, SolverFailure
    from .events import Event
    from .saveat import SaveAt
    from .solution import Solution, Stats, record
    from .solving import solve
    from .terms import Layered, ODETerm, Partitioned, SDETerm, Semilinear, Split, Term

_HOME = {
    "Compile": "compiling",
    "DeqlightError": "errors",
    "InputError": "errors",
    "SolverFailure": "errors",
    "Event": "events",
    "SaveAt": "saveat",
    "load": "cli.load",
    "Solution": "solution",
    "Stats": "solution",
    "record": "solution",
    "solve": "solving",
    "Layered": "terms",
    "ODETerm": "terms",
    "Partitioned": "terms",
    "SDETerm": "terms",
    "Semilinear": "terms",
    "Split": "terms",
    "Term": "terms",
}
_PACKAGES = (
    "brownian",
    "controllers",
    "data",
    "fields",
    "gradients",
    "metrics",
    "nets",
    "plugin",
    "policies",
    "regularizers",
    "robustness",
    "schedules",
    "solvers",
    "tasks",
    "terms",
    "testing",
)

__all__ = [
    "Compile",
    "DeqlightError",
    "Event",
    "InputError",
    "Layered",
    "ODETerm",
    "Partitioned",
    "SDETerm",
    "SaveAt",
    "Semilinear",
    "Solution",
    "SolverFailure",
    "Split",
    "Stats",
    "Term",
    "__version__",
    "load",
    "record",
    "solve",
]


def __getattr__(name: str) -> object:
    if name in _HOME:
        value: object = getattr(import_module(f".{_HOME[name]}", __name__), name)
    elif name in _PACKAGES:
        value = import_module(f".{name}", __name__)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME, *_PACKAGES})
