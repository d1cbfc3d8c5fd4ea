"""Station: the guests' door, the guest book: who came, what each brought, and how to find it by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import ConfigError, suggest
from .spec import BASES, CONFIGS

__all__ = ["FILE", "Host", "Plugin", "noun"]

FILE = "(file)"
"""Stands where the distribution's name would, for a plugin given as a file."""


@dataclass(frozen=True)
class Plugin:
    """One plugin that was found, whether or not it could be used."""

    name: str
    """The entry point's name, or the file's without its ending."""
    distribution: str
    """What `pip` calls it; `(file)` for a plugin given as a file."""
    version: str
    """The distribution's version; for a file a digest of its content."""
    source: str
    """The module, or the path of the file."""
    hooks: tuple[str, ...] = ()
    """The hooks that it implements; empty unless active."""
    classes: tuple[str, ...] = ()
    """The names of the classes that it brings; empty unless active."""
    state: Literal["active", "failed", "blocked"] = "active"
    """Failed plugins bring nothing; blocked ones were not even imported."""
    reason: str = ""
    """Why it is not active."""

    @property
    def key(self) -> str:
        """A name that no other plugin has."""
        return f"{self.distribution}:{self.name}"

    @property
    def label(self) -> str:
        """How messages call it: its name, and where that comes from."""
        return f"{self.name} ({self.source if self.distribution == FILE else f'{self.distribution} {self.version}'})"


@dataclass(frozen=True)
class Host:
    """What loading found: the plugins, in the order they were taken, and what the active ones bring.

    Args:
        plugins: one record for each plugin; deqlight's own is the first.
        offers: for each hook, name → class; for `deqlight_configs`, name → experiment file.
        folders: the config folders.
    """

    plugins: tuple[Plugin, ...]
    offers: Mapping[str, Mapping[str, Any]]
    folders: tuple[Path, ...]

    def classes(self, hook: str) -> dict[str, type[Any]]:
        """Name → class of everything that came through a hook, deqlight's own first.

        Raises:
            ConfigError: for a hook that returns no classes.
        """
        if hook not in BASES:
            raise ConfigError(f"no hook {hook!r} returns classes; {suggest(hook, BASES)}")
        return dict(self.offers[hook])

    def find(self, hook: str, name: str) -> type[Any]:
        """The class of that name, for instance `find("deqlight_solvers", "Heun")`.

        Raises:
            ConfigError: for an unknown name, with the nearest one, the list, and the plugins that could not be used.
        """
        found: type[Any] = self._look_up(self.classes(hook), noun(hook), name)
        return found

    def hook_of(self, name: str, *hooks: str) -> str:
        """The first of these hooks that brings a class of that name.

        Raises:
            ConfigError: for an unknown name, with the nearest one, the list, and the plugins that could not be used.
        """
        brought = {known: hook for hook in reversed(hooks) for known in self.classes(hook)}
        found: str = self._look_up(brought, " or ".join(map(noun, hooks)), name)
        return found

    def configs(self) -> list[Path]:
        """The folders of YAML, deqlight's own first."""
        return list(self.folders)

    def experiment(self, name: str) -> Path:
        """The file of a shipped experiment, by its name without the ending.

        Raises:
            ConfigError: for an unknown name.
        """
        found: Path = self._look_up(self.offers[CONFIGS], noun(CONFIGS), name)
        return found

    def manifest(self) -> list[tuple[str, str]]:
        """(`distribution:name`, version) of each active plugin, sorted: equal on machines that see the same ones."""
        return sorted((plugin.key, plugin.version) for plugin in self.plugins if plugin.state == "active")

    def _look_up(self, known: Mapping[str, Any], kind: str, name: str) -> Any:
        if name in known:
            return known[name]
        absent = "".join(f"; plugin {p.label} is {p.state}: {p.reason}" for p in self.plugins if p.state != "active")
        raise ConfigError(f"no {kind} is called {name!r}; {suggest(name, known)}{absent}")


def noun(hook: str) -> str:
    """What one thing from a hook is called: `deqlight_solvers` → "solver"."""
    return hook.removeprefix("deqlight_").removesuffix("s")
