"""Station: the compiler. Functions that run as one graph, or not at all: nothing eager is ever called compiled."""

from __future__ import annotations

import types
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import lru_cache, wraps
from typing import Any, ParamSpec, TypeVar

import torch

from .errors import CompileFailure, InputError

__all__ = ["Compile", "compiled", "must_be_traced", "untraced"]

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Compile:
    """Compiled solves: `torch.compile` makes one graph of a step, and of the loop over steps where it can.

    A step compiles to one graph without breaks, forward and backward, or the solve fails with `CompileFailure`. Where
    no gradient is needed and steps are measured, the loop itself is part of the graph: the host looks at it once in
    `chunk` steps, and samples that are done wait for the others (eagerly they leave). The first solve of each kind of
    term, solver, shape and dtype pays for the compilation, seconds to a minute; another batch size pays once more.

    Fields get time as a 0-d tensor where eager code gets a float.

    Args:
        chunk: most steps between two looks of the host.

    Raises:
        InputError: for a chunk below one.
    """

    chunk: int = 256

    def __post_init__(self) -> None:
        if self.chunk < 1:
            raise InputError(f"Compile got chunk={self.chunk}; it must be at least 1")


HINT = (
    "Fields must be made of tensor operations alone (no float(t), no item(), no printing, no branches on values), and "
    "a C++ compiler must be at hand; leave out compile= to run eagerly"
)


def must_be_traced() -> None:
    """Called by code that is to be compiled.

    Raises:
        CompileFailure: if it runs eagerly, because compilation is switched off.
    """
    if not torch.compiler.is_compiling():
        raise CompileFailure(
            "a compiled solve would have run eagerly: compilation is switched off (TORCH_COMPILE_DISABLE, "
            "TORCHDYNAMO_DISABLE, torch.compiler.set_stance); switch it on, or leave out compile="
        )


def untraced(reason: str, where: Callable[..., bool]) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """A decorator: what no graph can hold runs between two, eagerly with all it calls; `fullgraph=True` refuses it.

    Args:
        reason: why no graph can hold it, and what to do; the refusal says it.
        where: of the function's arguments, whether these are such a call.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        def eagerly(*args: P.args, **options: P.kwargs) -> T:
            apart: Callable[P, T] = torch.compiler.disable(function)  # type: ignore[no-untyped-call]
            return apart(*args, **options)  # made here, for it loads the compiler

        eagerly.__dict__.update(_torchdynamo_disable=True, _torchdynamo_disable_msg=reason)  # torch's own marks

        @wraps(function)
        def run(*args: P.args, **options: P.kwargs) -> T:
            if torch.compiler.is_compiling() and where(*args, **options):
                return eagerly(*args, **options)
            return function(*args, **options)

        return run

    return decorate


@lru_cache(maxsize=256)
def compiled(function: Callable[..., Any], kind: Hashable, loop: bool = False) -> Callable[..., Any]:
    """The function as one graph; one for each kind of call, so that kinds do not use up each other's recompilations.

    Args:
        function: a plain function of a module.
        kind: what distinguishes the calls besides shapes and dtypes.
        loop: whether it holds a loop, which then runs outside of Python as well.
    """
    name = f"{function.__name__}_{compiled.cache_info().misses}"  # what torch knows a function's shapes by
    own = types.FunctionType(function.__code__.replace(co_name=name), function.__globals__, name)
    graph = torch.compile(own, fullgraph=True, options={"cpp_wrapper": True} if loop else None)

    def run(*args: Any) -> Any:
        try:
            return graph(*args)
        except Exception as error:  # the compiler has many kinds
            if not _of_compiler(error):
                raise
            raise CompileFailure(f"the solve could not be compiled: {_first_line(error)}. {HINT}") from error

    return run


def _of_compiler(error: Exception) -> bool:
    return type(error).__module__.startswith(("torch._dynamo", "torch._inductor", "torch.fx"))


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__).rstrip(".")
