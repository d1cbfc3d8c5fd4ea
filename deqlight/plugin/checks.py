"""Station: the guests' door, the door-keeper. What a plugin must be to come in; each refusal says what to mend."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from inspect import isabstract
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from ..errors import PluginError, suggest
from .host import noun
from .spec import API, BASES, CONFIGS

__all__ = ["check_api", "check_class", "check_hooks", "listed", "named"]


def check_api(module: object) -> None:
    """Refuse a plugin written for another plugin API; one that does not say is taken at its word."""
    api = getattr(module, "DEQLIGHT_API", API)
    try:
        major, minor = api
        fits = major == API[0] and minor <= API[1]
    except (TypeError, ValueError):
        raise PluginError(f"DEQLIGHT_API = {api!r}; it must be a pair (major, minor), now {API}") from None
    if not fits:
        ours = ".".join(map(str, API))
        raise PluginError(f"it needs plugin API {major}.{minor}, this deqlight has {ours}; install versions that agree")


def check_hooks(module: object, implemented: Iterable[str]) -> None:
    """Refuse hooks that would never be called, and a plugin without any."""
    hooks, known = set(implemented), [*BASES, CONFIGS]
    for name in sorted(hooks.difference(known)):
        raise PluginError(f"there is no hook {name!r}; {suggest(name, known)}")
    for name in known:
        if name not in hooks and getattr(module, name, None) is not None:
            raise PluginError(f"{name} is not marked as a hook; write @impl above it, from deqlight.plugin import impl")
    if not hooks:
        raise PluginError(_without_hooks(module, known))


def check_class(hook: str, cls: Any) -> None:
    """Refuse what is not a usable class of the hook's kind."""
    base, name = resolve_name(BASES[hook]), getattr(cls, "__name__", repr(cls))
    wanted = f"{hook} returns concrete subclasses of {BASES[hook].replace(':', '.')}"
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise PluginError(f"{name} is not one; {wanted}, as classes, not instances or names")
    if isabstract(cls):
        raise PluginError(f"{name} does not define {', '.join(sorted(vars(cls)['__abstractmethods__']))}; {wanted}")
    if "<locals>" in cls.__qualname__:  # also how the host marks the classes of a plugin that it disabled
        raise PluginError(
            f"{name} is defined inside a function, where no config and no checkpoint finds it; move it out"
        )
    if hook == "deqlight_solvers":
        _check_solver(cls)


def listed(hook: str, found: Any) -> list[Any]:
    """One hook's result as a list, whatever iterable it was."""
    try:
        return list(found)
    except TypeError:
        raise PluginError(f"{hook} returned {found!r}; it must return a list, as in `return [MyClass]`") from None


def named(hook: str, things: list[Any]) -> dict[str, Any]:
    """Name → thing of one hook's result; for the configs, name → experiment file.

    Raises:
        PluginError: for anything but usable classes (folders, for the configs), and for a name that stands twice.
    """
    if hook == CONFIGS:
        pairs = [(file.stem, file) for folder in things for file in _files_of(folder)]
    else:
        for cls in things:
            check_class(hook, cls)
        pairs = [(cls.__name__, cls) for cls in things]
    names = dict(pairs)
    if len(names) < len(pairs):
        twice = sorted({name for name, _ in pairs if [n for n, _ in pairs].count(name) > 1})
        raise PluginError(f"{hook} returned two {noun(hook)}s of one name ({', '.join(twice)}); rename one")
    return names


def _files_of(folder: Any) -> list[Path]:
    """The experiments in a config folder, in order."""
    if not (isinstance(folder, Path) and folder.is_dir()):
        raise PluginError(f"{CONFIGS} returned {folder!r}; it must return pathlib.Path objects of folders that exist")
    return sorted((folder / "experiment").glob("*.yaml"))


def _check_solver(cls: Any) -> None:
    """A solver must say what it claims: from its examples the conformance kit measures whether that is true."""
    from ..solvers import SolverInfo

    name = cls.__name__
    try:
        examples = list(cls.examples())
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
        raise PluginError(f"{name}.examples() raised {told}; it must return instances that can be tested") from error
    if not examples or not all(isinstance(getattr(example, "info", None), SolverInfo) for example in examples):
        what = "has no info" if examples else "has no examples()"
        raise PluginError(f"{name} {what}; a solver claims something: info = SolverInfo(order=…, nfe_step=…)")


def _without_hooks(module: object, known: Iterable[str]) -> str:
    """What to add to a file that has classes and no hook."""
    own: Mapping[str, Any] = vars(module)
    classes = [
        c for c in own.values() if isinstance(c, type) and c.__module__ == own.get("__name__") and not isabstract(c)
    ]
    for hook, base in BASES.items():
        brought = [cls.__name__ for cls in classes if issubclass(cls, resolve_name(base))]
        if brought:
            line = f"def {hook}(): return [{', '.join(brought)}]"
            return f"it has no hook; add two lines at its end, `@impl` and `{line}` (from deqlight.plugin import impl)"
    return f"it has no hook; it should define one of {', '.join(known)}, marked with @impl"
