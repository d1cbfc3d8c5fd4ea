"""Station: the guests' door, the host. Finds the plugins, takes in the sound ones and tells why of the others.

Nothing happens at import. `load` reads the environment:

- `DEQLIGHT_STRICT_PLUGINS=1`: the first faulty plugin raises, where it would be disabled with a warning;
- `DEQLIGHT_DISABLE_PLUGINS=1`, or `=name,name`: all installed plugins, or those, are not even imported;
- `DEQLIGHT_TRACE_PLUGINS=1`: one line on standard error for each plugin.
"""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib import import_module, metadata
from pathlib import Path
from pkgutil import resolve_name
from time import perf_counter
from types import MappingProxyType
from typing import Any

import pluggy

from .. import __version__
from ..errors import PluginError, PluginWarning
from . import inline, spec
from .checks import check_api, check_hooks, listed, named
from .host import FILE, Host, Plugin, noun
from .spec import BASES, CONFIGS, NAME

__all__ = ["Host", "Plugin", "host", "load"]


@cache
def host(*files: Path) -> Host:
    """The host of this process: `load` once for the same files."""
    return load(files)


def load(files: Sequence[Path] = ()) -> Host:
    """Load deqlight's own classes, the installed plugins by name of their distribution, then the plugin files.

    Args:
        files: plugins of one file. They are asked for by name, so no switch disables them and each fault raises.

    Raises:
        PluginError: for a faulty file; under `DEQLIGHT_STRICT_PLUGINS=1`, for any faulty plugin.
    """
    loader = _Loader(_Switches.read(os.environ))
    loader.take(_builtin(), strict=True)
    for candidate in _installed():
        loader.take(candidate)
    for candidate in _files(files):
        loader.take(candidate, strict=True)
    return loader.finish()


@dataclass(frozen=True)
class _Switches:
    """What the environment asks of the loading."""

    strict: bool
    trace: bool
    quiet: bool
    blocked: frozenset[str]

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> _Switches:
        def on(name: str) -> bool:
            return environment.get(name, "").strip() not in ("", "0")

        listed = environment.get("DEQLIGHT_DISABLE_PLUGINS", "0").split(",")
        return cls(
            strict=on("DEQLIGHT_STRICT_PLUGINS"),
            trace=on("DEQLIGHT_TRACE_PLUGINS"),
            quiet=environment.get("LOCAL_RANK", "0") != "0",  # every rank loads plugins, one of a machine speaks
            blocked=frozenset(_canonical(name) for name in listed) - {"", "0"},
        )

    def block(self, plugin: Plugin) -> bool:
        """Whether this plugin is switched off; deqlight's own and files never are."""
        if plugin.distribution in (NAME, FILE):
            return False
        return bool(self.blocked & {"1", _canonical(plugin.name), _canonical(plugin.distribution)})


@dataclass(frozen=True)
class _Candidate:
    """A plugin that was found and not yet imported."""

    record: Plugin
    importer: Callable[[], object]


class _Loader:
    """Takes plugins one by one, each whole or not at all."""

    def __init__(self, switches: _Switches) -> None:
        self.switches = switches
        self.manager = pluggy.PluginManager(NAME)
        self.manager.add_hookspecs(spec)
        self.plugins: list[Plugin] = []
        self.offers: dict[str, dict[str, Any]] = {hook: {} for hook in (*BASES, CONFIGS)}
        self.owners: dict[tuple[str, str], Plugin] = {}
        self.folders: list[Path] = []

    def take(self, candidate: _Candidate, strict: bool = False) -> None:
        """Take one plugin in, or record why not."""
        plugin, start = candidate.record, perf_counter()
        if self.switches.block(plugin):
            plugin = replace(plugin, state="blocked", reason="switched off by DEQLIGHT_DISABLE_PLUGINS")
        else:
            try:
                plugin = self._admit(candidate)
            except (Exception, SystemExit) as error:
                plugin = self._dismiss(plugin, error, strict or self.switches.strict)
        self.plugins.append(plugin)
        if self.switches.trace:
            brought = ", ".join(plugin.classes) or plugin.reason
            sys.stderr.write(f"plugin {plugin.label}: {plugin.state}, {perf_counter() - start:.3f} s: {brought}\n")

    def finish(self) -> Host:
        """The immutable result."""
        self._retire()
        offers = {hook: MappingProxyType(found) for hook, found in self.offers.items()}
        return Host(tuple(self.plugins), MappingProxyType(offers), tuple(self.folders))

    def _admit(self, candidate: _Candidate) -> Plugin:
        """Import, register, ask and check; nothing is kept before the last check is passed."""
        plugin, module = candidate.record, candidate.importer()
        check_api(module)
        if self.manager.is_registered(module):
            raise PluginError(
                f"{plugin.source} is already loaded as {self.manager.get_name(module)}; remove one of both"
            )
        self.manager.register(module, plugin.key)
        hooks = sorted(caller.name for caller in self.manager.get_hookcallers(module) or ())
        check_hooks(module, hooks)
        self.manager.check_pending()
        returned = {hook: listed(hook, self._ask(hook, module)) for hook in hooks}
        offers = {hook: named(hook, things) for hook, things in returned.items()}
        for hook, names in offers.items():
            self._refuse_collisions(plugin, hook, names)
        for hook, names in offers.items():
            self.offers[hook].update(names)
            self.owners.update({(hook, name): plugin for name in names})
        self.folders += returned.get(CONFIGS, [])
        classes = tuple(name for hook in hooks if hook in BASES for name in offers[hook])
        return replace(plugin, hooks=tuple(hooks), classes=classes)

    def _ask(self, hook: str, module: object) -> Any:
        """What this plugin's hook returns; pluggy gives the answers of all, so the others are left out."""
        others = [plugin for plugin in self.manager.get_plugins() if plugin is not module]
        answers = self.manager.subset_hook_caller(hook, remove_plugins=others)()
        return answers[0] if answers else None  # pluggy drops the answer None, which a forgotten return gives

    def _refuse_collisions(self, plugin: Plugin, hook: str, names: Iterable[str]) -> None:
        for name in names:
            owner = self.owners.get((hook, name))
            if owner is not None:
                off = next((p.name for p in (plugin, owner) if p.distribution not in (NAME, FILE)), "")
                remedy = f"rename one{f', or set DEQLIGHT_DISABLE_PLUGINS={off}' if off else ''}"
                raise PluginError(f"{noun(hook)} {name!r} is brought by {owner.label} and by {plugin.label}; {remedy}")

    def _dismiss(self, plugin: Plugin, error: BaseException, strict: bool) -> Plugin:
        """Send a faulty plugin away whole, with one warning, or raise."""
        if self.manager.has_plugin(plugin.key):
            self.manager.unregister(name=plugin.key)
        told = str(error) if isinstance(error, PluginError) else f"{type(error).__name__}: {error}"
        reason = " ".join(told.split())
        if strict:
            raise PluginError(f"plugin {plugin.label} cannot be used: {reason}") from error
        if not self.switches.quiet:
            hint = f"DEQLIGHT_DISABLE_PLUGINS={plugin.name} silences this, DEQLIGHT_STRICT_PLUGINS=1 raises"
            told = f"plugin {plugin.label} is disabled, all else works: {reason} ({hint})"
            warnings.warn(PluginWarning(told), stacklevel=4)
        return replace(plugin, state="failed", reason=reason)

    def _retire(self) -> None:
        """Take failed plugins' classes out of the reach of short names.

        The command line finds `--model.net.solver Heun` among all living subclasses of `Solver`. A disabled plugin's
        would still answer, and one of a built-in's name would make that name ambiguous. jsonargparse passes over
        classes that are local to a function, so they are renamed as such. Modules (fields) have foreign relatives
        without number: of those only namesakes are renamed.
        """
        packages = {re.split(r"[.:\s]", p.source)[0] for p in self.plugins if p.state == "failed"} - {NAME, "torch"}
        kept = {
            parent for names in self.offers.values() for cls in names.values() for parent in getattr(cls, "__mro__", ())
        }
        for hook, base in BASES.items() if packages else ():
            for cls in _descendants(resolve_name(base)) - kept:
                reachable = base.startswith(f"{NAME}.") or cls.__name__ in self.offers[hook]
                if reachable and cls.__module__.partition(".")[0] in packages:
                    cls.__module__, cls.__qualname__ = __name__, f"disabled.<locals>.{cls.__qualname__}"


def _builtin() -> _Candidate:
    source = f"{__package__}.builtin"
    return _Candidate(Plugin("builtin", NAME, __version__, source), partial(import_module, source))


def _installed() -> list[_Candidate]:
    """The plugins of all installed distributions, sorted: the order decides who was first, on every machine alike."""
    found: dict[tuple[str, str], _Candidate] = {}
    for distribution in metadata.distributions():
        for point in _entry_points(distribution):
            name, version = distribution.metadata["Name"] or "(unnamed)", distribution.version or "?"
            record = Plugin(point.name, name, version, point.value)
            # A distribution may lie twice on the path (installed and editable); as for imports, the first counts.
            found.setdefault((_canonical(name), point.name), _Candidate(record, partial(_import, point)))
    return [found[key] for key in sorted(found)]


def _entry_points(distribution: metadata.Distribution) -> list[metadata.EntryPoint]:
    try:
        return [point for point in distribution.entry_points if point.group == NAME]
    except Exception:  # a foreign distribution's unreadable metadata is not our user's concern
        return []


def _import(point: metadata.EntryPoint) -> object:
    try:
        return point.load()
    except (Exception, SystemExit) as error:
        raise PluginError(f"importing {point.value} raised {type(error).__name__}: {error}") from error


def _files(files: Iterable[Path]) -> Iterator[_Candidate]:
    seen: dict[str, Path] = {}
    for path in dict.fromkeys(Path(file).expanduser().resolve() for file in files):
        first = seen.setdefault(inline.module_name(path), path)
        if first != path:
            raise PluginError(f"{first} and {path} are plugins of one name; rename one of the files")
        yield _Candidate(Plugin(path.stem, FILE, inline.digest(path), str(path)), partial(inline.import_file, path))


def _descendants(cls: type[Any]) -> set[type[Any]]:
    found = set(cls.__subclasses__())
    return found.union(*map(_descendants, found))


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()
