"""Station: the guests' door, without a key. `--plugin FILE.py` loads a plugin of one file, with no packaging."""

from __future__ import annotations

import hashlib
import re
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from traceback import extract_tb
from types import ModuleType

from ..errors import PluginError

__all__ = ["digest", "import_file", "module_name"]


def module_name(path: Path) -> str:
    """The module that a file becomes: it depends on the file's name alone, so that a checkpoint finds its classes."""
    return f"deqlight_inline_{re.sub(r'[^0-9A-Za-z_]', '_', path.stem)}"


def digest(path: Path) -> str:
    """Twelve characters that stand for the file's content: the version of a plugin that has none."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12] if path.is_file() else "missing"


def import_file(path: Path) -> ModuleType:
    """Import the file as a module that `import` finds again in this process; a second call returns the same one.

    Raises:
        PluginError: for a file that is missing, is not Python, or raises while it is imported.
    """
    path = path.resolve()
    if not path.is_file():
        raise PluginError(f"there is no file {path}; --plugin takes the path of a Python file")
    name = module_name(path)
    known = sys.modules.get(name)
    if known is not None and known.__file__ == str(path):
        return known
    spec = spec_from_file_location(name, path)
    if path.suffix != ".py" or spec is None or spec.loader is None:
        raise PluginError(f"{path.name} is no Python file; --plugin takes a file whose name ends in .py")
    module = sys.modules[name] = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        lines = [frame.lineno for frame in extract_tb(error.__traceback__) if frame.filename == str(path)]
        where = f", line {lines[-1]}" if lines else ""
        raise PluginError(
            f"{path.name}{where} raised {type(error).__name__}: {error}; mend it and call again"
        ) from error
    return module
