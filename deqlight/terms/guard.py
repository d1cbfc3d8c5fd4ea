"""Station: the right-hand side, kept one function. What layers that draw or remember may do during a solve."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType, MethodType
from typing import TypeAlias

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.utils.parametrizations import _SpectralNorm

from ..errors import InputError
from ..states import leaves
from ..types import FieldFn, Hook, State, Tensor, Time
from .base import innermost, name_of
from .replay import Untracked, tracking

__all__ = ["Guard", "restless"]

Draws: TypeAlias = Sequence[tuple[torch.Generator, Tensor]]
"""Generators, and the states from which a field drew."""

Buffers: TypeAlias = Mapping[tuple[str, str], tuple[Tensor, int]]
"""Buffers by layer and name, and how often each was written to."""

RESTLESS: Mapping[type[nn.Module], str] = {
    _DropoutNd: "p",
    nn.RNNBase: "dropout",
    nn.MultiheadAttention: "dropout",
    nn.RReLU: "upper",
    _SpectralNorm: "n_power_iterations",
}
"""Layers that are known to give something else at each call in training mode, if this attribute is above zero."""


class Guard:
    """A hook that keeps each field one function of time and state for as long as a solve lasts; a new one each solve.

    A solver takes the values of a field for those of one function, and so does a gradient method that evaluates it
    again on the way back. Of the layers in a field that would have it otherwise,

    - those that draw random numbers (dropout, noise) draw at the first call of the field; its later calls draw the same
      and leave the generator where it is;
    - batch statistics are counted at the first call; later calls normalise as ever and count nothing;
    - those that change another buffer at each call (spectral norm, averages, observers) are refused at the second.

    A field that is called once, as each layer of a ResNet is, does as it does outside a solve; layers that share a
    block share its numbers. Seen are torch's default generators, and the layers of modules, of their methods, and of
    functions that close over them. Where a graph is traced or captured, and on devices other than CPUs and CUDA's,
    generators cannot be read: there a field with a layer that is known to draw may be called once.

    Args:
        apart: whether samples leave the field's calls one by one, so that no mask could stay with its sample and no
            batch with its statistics; random fields and batch statistics are refused then.
    """

    def __init__(self, apart: bool = False) -> None:
        self.apart = apart
        self._later: dict[int, Hook | None] = {}
        self._held: list[FieldFn] = []  # an identity is one field's for as long as the field lives

    def __call__(self, field: FieldFn, t: Time, y: State) -> State:
        """Call the field as its calls before demand; most fields demand nothing."""
        later = self._later.get(id(field), _unseen)
        if later is None:
            return field(t, y)
        return self._first(field, t, y) if later is _unseen else later(field, t, y)

    def _first(self, field: FieldFn, t: Time, y: State) -> State:
        """The first call, as ever; what it drew is noted."""
        inner = innermost(field)
        later = self._later.get(id(inner), _unseen)
        if later is not _unseen:  # the field is known, inside another hook
            return field(t, y) if later is None else later(field, t, y)
        generators = _generators(y)
        before = [generator.get_state() for generator in generators]
        value = field(t, y)
        draws = [(g, s) for g, s in zip(generators, before, strict=True) if not torch.equal(s, g.get_state())]
        if draws and self.apart:
            raise InputError(
                f"the field '{name_of(field)}' draws random numbers (dropout, noise), and in this solve samples leave "
                'its calls when they are done, so that none could keep its mask; use norm="joint", or fixed steps of '
                "an explicit solver, or take the random layer out of the field"
            )
        self._later[id(inner)] = lambda field, t, y: self._second(draws, field, t, y)
        if not self.apart:
            self._held.append(inner)
        return value

    def _second(self, draws: Draws, field: FieldFn, t: Time, y: State) -> State:
        """The second call: what layers the field has, and whether it changes what it should not."""
        inner = innermost(field)
        layers, blind = dict(_layers(inner)), not _generators(y)
        if self.apart:
            _refuse_mixing(inner, layers)
        if blind:
            _refuse_known(inner, layers)
        norms, before = tracking(layers.values()), {} if blind else _buffers(layers)
        later = self._later[id(inner)] = _Again(norms, draws) if norms or draws else None
        value = field(t, y) if later is None else later(field, t, y)
        if before:
            _refuse_changed(inner, before, _buffers(layers))
        return value


def _unseen(field: FieldFn, t: Time, y: State) -> State:
    """Stands where a field has not been called yet."""
    return field(t, y)


@dataclass(frozen=True, eq=False)  # with a hash of its fields, compilers before torch 2.13 would ask one without any
class _Again:
    """What later calls of a field go through: batches are not counted, numbers are drawn as at the first call."""

    layers: list[_NormBase]
    draws: Draws

    def __call__(self, field: FieldFn, t: Time, y: State) -> State:
        if not self.draws:
            with Untracked(self.layers):
                return field(t, y)
        if not _generators(y):
            raise InputError(
                f"the field '{name_of(field)}' draws random numbers (dropout, noise), which a compiled or captured "
                "graph cannot draw again; take the random layer out of the field, call eval() on it, or do not compile"
            )
        now = [(generator, generator.get_state()) for generator, _ in self.draws]
        try:
            _put(self.draws)
            with Untracked(self.layers):
                return field(t, y)
        finally:
            _put(now)


def _put(draws: Draws) -> None:
    for generator, state in draws:
        generator.set_state(state)


def _generators(y: State) -> list[torch.Generator]:
    """The default generators that a field of such a state draws from; none where they cannot be read."""
    if torch.compiler.is_compiling():
        return []
    device = leaves(y)[0].device
    if device.type == "cpu":
        return [torch.default_generator]
    if device.type == "cuda" and not torch.cuda.is_current_stream_capturing():
        return [torch.default_generator, torch.cuda.default_generators[device.index]]
    return []


def _layers(field: FieldFn) -> Iterator[tuple[str, nn.Module]]:
    """The modules that a field is seen to be made of, by name."""
    if isinstance(field, nn.Module):
        yield from field.named_modules()
    elif isinstance(field, MethodType) and isinstance(field.__self__, nn.Module):
        yield from field.__self__.named_modules()
    elif isinstance(field, FunctionType) and not torch.compiler.is_compiling():
        for name, cell in zip(field.__code__.co_freevars, field.__closure__ or (), strict=True):
            if isinstance(cell.cell_contents, nn.Module):
                yield from cell.cell_contents.named_modules(prefix=name)


def _buffers(layers: Mapping[str, nn.Module]) -> dict[tuple[str, str], tuple[Tensor, int]]:
    """All buffers of the layers, and how often each was written to."""
    return {
        (path, name): (buffer, buffer._version)
        for path, layer in layers.items()
        for name, buffer in layer._buffers.items()
        if buffer is not None and not buffer.is_inference()  # those keep no count
    }


def _refuse_changed(field: FieldFn, before: Buffers, after: Buffers) -> None:
    for place, (buffer, version) in after.items():
        old = before.get(place)
        if old is None or old[0] is not buffer or old[1] != version:
            path, name = place
            raise InputError(
                f"each call of the field '{name_of(field)}' changes the buffer '{name}' of its layer '{path}', so that "
                "it is not one function of time and state during a solve; call eval() on that layer, move it out of "
                "the field, or, if the buffer is a counter, make it a plain attribute"
            )


def _refuse_mixing(field: FieldFn, layers: Mapping[str, nn.Module]) -> None:
    for path, layer in layers.items():
        if isinstance(layer, _BatchNorm) and layer.training:
            raise InputError(
                f"the field '{name_of(field)}' has BatchNorm in training mode ('{path}'), which mixes samples, and in "
                "this solve samples leave its calls when they are done; use GroupNorm2d or another norm of single "
                'samples, or norm="joint"'
            )


def restless(layer: nn.Module) -> bool:
    """Whether a layer is known to give something else at each call."""
    return layer.training and any(isinstance(layer, kind) and getattr(layer, k) > 0 for kind, k in RESTLESS.items())


def _refuse_known(field: FieldFn, layers: Mapping[str, nn.Module]) -> None:
    for path, layer in layers.items():
        if restless(layer):
            raise InputError(
                f"the field '{name_of(field)}' is called more than once in a solve, and its layer '{path}' "
                f"({type(layer).__name__}) gives something else at each call, which cannot be held still inside a "
                "compiled or captured graph; call eval() on that layer, take it out of the field, or do not compile"
            )
