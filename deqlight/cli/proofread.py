"""Station 1, the configuration: find the first mistake in it, and say it in one line.

The parser knows *that* a configuration is wrong; its messages list every type it tried. This module reads the same
configuration again, along the signatures of the classes it names, and stops at the first thing that cannot be.
"""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from ..errors import suggest

__all__ = ["Reader", "find_value", "merge", "set_option"]

Tree = dict[str, Any]
CLASS, ARGS = "class_path", "init_args"
MOST = 24  # a list longer than this helps nobody
NOUNS = {
    "LightningModule": "task",
    "LightningDataModule": "data module",
    "Module": "network or part",
    "LRScheduler": "schedule",
}


def merge(tree: Tree, other: Mapping[str, Any]) -> Tree:
    """`other` laid over `tree`, as the parser does it: a new class drops the options of the old one."""
    merged = dict(tree)
    for key, value in other.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, Mapping) and value.get(CLASS, old.get(CLASS)) == old.get(CLASS):
            merged[key] = merge(old, value)
        elif isinstance(old, dict) and old.get(CLASS) is not None and value == old[CLASS]:
            continue
        else:
            merged[key] = value
    return merged


def set_option(tree: Tree, option: str, value: Any) -> None:
    """Lay one option of the command line, `--model.net.solver Heun`, over the tree."""
    *path, last = option.lstrip("-").rstrip("+").split(".")
    for key in path:
        step = tree.get(key)
        if isinstance(step, list) and step and isinstance(step[-1], str | dict):
            # `callbacks+=` made the list longer; what follows is said of the last one
            item: Tree = {CLASS: step[-1]} if isinstance(step[-1], str) else dict(step[-1])
            tree[key] = [*step[:-1], item]
            tree = item.setdefault(ARGS, {})
            continue
        if not isinstance(step, dict):
            tree[key] = step = {CLASS: step} if isinstance(step, str) else {}
        tree = step.setdefault(ARGS, {}) if CLASS in step and key != ARGS else step
    old = tree.get(last)
    if option.endswith("+"):
        tree[last] = [*(old if isinstance(old, list) else []), value]
    elif not (isinstance(old, dict) and old.get(CLASS) == value):
        tree[last] = value


def find_value(tree: Any, name: str, value: str, path: str = "") -> str | None:
    """The full key of an option `name` whose value reads as `value`; None where there is none."""
    if isinstance(tree, Mapping):
        for key, item in tree.items():
            below = path if key == ARGS else f"{path}.{key}".lstrip(".")
            if key == name and str(item) == value:
                return below
            found = find_value(item, name, value, below)
            if found:
                return found
    if isinstance(tree, list):
        for number, item in enumerate(tree):
            found = find_value(item, name, value, f"{path}[{number}]")
            if found:
                return found
    return None


@dataclass(frozen=True)
class Reader:
    """Reads a configuration along the signatures.

    Args:
        packages: deqlight and the plugins.
        common: kinds with classes everywhere (modules, tasks); of those, only the packages' are offered.
        apart: kinds that are asked for by their own name, and not offered where just any module is.
    """

    packages: tuple[str, ...]
    common: tuple[type[Any], ...] = ()
    apart: tuple[type[Any], ...] = ()

    def faults(self, tree: Mapping[str, Any], bases: Mapping[str, Any]) -> Iterator[str]:
        """The mistakes, in the order of the file.

        Args:
            tree: the configuration as plain values.
            bases: for each key of the top level, what it configures: a base class, or Any.
        """
        for key, value in tree.items():
            if key not in bases:
                yield f"there is no option {key!r}; {near(key, bases)}"
            else:
                yield from self._value(key, value, bases[key])

    def options(self, tree: Mapping[str, Any], cls: type[Any], key: str, supplied: int = 0) -> Iterator[str]:
        """The mistakes among the arguments of a known class; the first `supplied` come from the code that calls."""
        parameters = _parameters(cls)
        hints = _hints(cls)
        named = list(_named(parameters))[supplied:]
        open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        for name, value in tree.items():
            if name in named:
                yield from self._value(f"{key}.{name}", value, hints.get(name, Any))
            elif not open_ended:
                yield f"{key}.{name}: {cls.__name__} has no option {name!r}; {near(name, named)}"

    def _value(self, key: str, value: Any, hint: Any) -> Iterator[str]:
        """The mistakes in one value, wherever the hint says that a class is configured there."""
        bases, listed = _bases(hint)
        words = _words(hint)
        if words and isinstance(value, str):
            known = self._known(bases) if bases else {}
            if value not in (*words, *known) and _imported(value) is None:
                yield f"{key} is {value!r}; {suggest(value, (*words, *known))}"
            return
        if listed and isinstance(value, list):
            for number, item in enumerate(value):
                yield from self._class(f"{key}[{number}]", item, bases)
        elif bases and isinstance(value, (str, Mapping)) and _list_alone(hint):
            name = value if isinstance(value, str) else value.get(CLASS)
            yield f"{key} is {name!r}; it is a list: write [{name}], or on the command line --{key}+={name}"
        elif bases and not isinstance(value, list):
            yield from self._class(key, value, bases)

    def _class(self, key: str, value: Any, bases: tuple[Any, ...]) -> Iterator[str]:
        if value is None or not isinstance(value, (str, Mapping)):
            return
        given = value if isinstance(value, str) else value.get(CLASS)
        options = {} if isinstance(value, str) else value.get(ARGS) or {}
        known = self._known(bases)
        if given is None and len(bases) == 1 and is_dataclass(bases[0]) and bases[0] in known.values():
            yield from self.options(cast(Mapping[str, Any], value), cast("type[Any]", bases[0]), key)
            return
        if given is None:
            wanted = f"{{class_path: {next(iter(sorted(known)), 'NAME')}, init_args: {{…}}}}"
            yield f"{key} does not say which {_noun(bases)} it is; write {wanted}; {suggest('', known)}"
            return
        cls = known.get(given) or _imported(given)
        if cls is None:
            if "." not in given:
                others = "; others by their import path" if any(_made(base) in self.common for base in bases) else ""
                ours = all(self._ours(_made(base)) for base in bases)  # what deqlight is about is listed whole
                told = suggest(given, known) if ours else near(given, known)
                yield f"{key}: there is no {_noun(bases)} {given!r}; {told}{others}"
            return
        supplied = sum(isinstance(base, _Called) for base in bases[:1])
        yield from self.options(options, cls, key, supplied)
        yield from self._missing(options, cls, key, supplied)

    def _missing(self, options: Mapping[str, Any], cls: type[Any], key: str, supplied: int) -> Iterator[str]:
        """What has no default and is not given."""
        hints = _hints(cls)
        required = [name for name, p in _named(_parameters(cls)).items() if p.default is p.empty]
        for name in required[supplied:]:
            if name not in options:
                bases = _bases(hints.get(name, Any))[0]
                hint = f"; choose a {_noun(bases)}: {', '.join(sorted(self._known(bases)))}" if bases else ""
                yield f"{key}.{name} is required by {cls.__name__}{hint}"

    def _known(self, bases: tuple[Any, ...]) -> dict[str, type[Any]]:
        """Name → class of what can be chosen: all that can be made, but the kind itself."""
        kinds = [_made(base) for base in bases]
        found = [cls for kind in kinds for cls in _descendants(kind) if _public(cls)]
        if any(kind in self.common for kind in kinds):
            aside = tuple(kind for kind in self.apart if kind not in kinds)
            found = [cls for cls in found if not issubclass(cls, aside)]
        if any(kind in self.common or self._ours(kind) for kind in kinds):
            found = [cls for cls in found if self._ours(cls)]
        return {cls.__name__: cls for cls in found if not (cls in kinds and cls.__subclasses__())}

    def _ours(self, cls: type[Any]) -> bool:
        return cls.__module__.partition(".")[0] in self.packages


@dataclass(frozen=True)
class _Called:
    """A hint `Callable[[...], Result]`: the class is completed by a call in the code."""

    result: Any


def _bases(hint: Any) -> tuple[tuple[Any, ...], bool]:
    """The base classes that a hint asks for, and whether it asks for a list of them."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return (), False
    if origin in (Union, types.UnionType):
        parts = [_bases(argument) for argument in arguments if argument is not types.NoneType and not _words(argument)]
        if not all(bases for bases, _ in parts):
            return (), False  # a plain value may stand there as well, so nothing can be said
        return tuple(base for bases, _ in parts for base in bases), any(listed for _, listed in parts)
    if origin is Callable:
        return tuple(_Called(base) for base in _bases(arguments[-1])[0]) if arguments else (), False
    if isinstance(origin, type) and issubclass(origin, Sequence) and arguments:
        return _bases(arguments[0])[0], True
    if (
        isinstance(hint, type)
        and hint.__module__ not in ("builtins", "pathlib", "datetime")
        and not issubclass(hint, tuple)
    ):
        return (hint,), False
    return (), False


def _words(hint: Any) -> tuple[str, ...]:
    """The words that a hint takes, as a choice or as a part of one."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return tuple(word for argument in arguments for word in _words(argument))
    return arguments if origin is Literal and all(isinstance(word, str) for word in arguments) else ()


def _list_alone(hint: Any) -> bool:
    """Whether a hint asks for a list, and nothing else will do."""
    origin, arguments = get_origin(hint), [argument for argument in get_args(hint) if argument is not types.NoneType]
    if origin in (Union, types.UnionType):
        return all(_list_alone(argument) for argument in arguments)
    return isinstance(origin, type) and issubclass(origin, Sequence)


def near(given: str, names: Iterable[str]) -> str:
    """The nearest name and the list of all; of a long list the nearest alone."""
    names = list(names)
    told = suggest(given, names)
    short = told.partition(" accepted: ")[0]
    return told if len(names) <= MOST or short == told else f"{short} (--help-all lists all)"


def _public(cls: type[Any]) -> bool:
    hidden = cls.__name__.startswith("_") or "._" in cls.__module__  # as the parser has it
    return not (inspect.isabstract(cls) or hidden or "<locals>" in cls.__qualname__)


def _made(base: Any) -> Any:
    return base.result if isinstance(base, _Called) else base


def _noun(bases: tuple[Any, ...]) -> str:
    name = _made(bases[0]).__name__ if bases else "class"
    return NOUNS.get(name, name.lower())


def _descendants(cls: Any) -> list[type[Any]]:
    return [cls, *(found for child in cls.__subclasses__() for found in _descendants(child))]


def _imported(given: str) -> type[Any] | None:
    """The class of an import path, if its module is loaded already; nothing is imported to explain a mistake."""
    module, _, name = given.rpartition(".")
    found = getattr(sys.modules.get(module), name, None)
    return found if isinstance(found, type) else None


def _parameters(cls: type[Any]) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(cls).parameters)
    except (TypeError, ValueError):
        return {}


def _named(parameters: Mapping[str, inspect.Parameter]) -> dict[str, inspect.Parameter]:
    return {name: p for name, p in parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}


def _hints(cls: type[Any]) -> dict[str, Any]:
    try:
        return get_type_hints(cls.__init__)
    except (NameError, TypeError, AttributeError):  # a name that only type checkers import: then nothing is known
        return {}
