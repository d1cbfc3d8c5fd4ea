"""Station 1, the export: the card beside it. What the network is, of what data, how good, and how it is loaded."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from ..callbacks import MANIFEST
from ..solvers import Solver
from . import weights
from .load import Trained

__all__ = ["as_yaml", "card"]

LOAD = """\
```python
import deqlight

net = deqlight.load("{name}")  # in evaluation mode, on the CPU
```

`deqlight fit -c config.yaml` trains one like it. `deqlight.load` reads numbers alone: no code in the file is run."""
RUN = """\
```python
import torch

net = torch.export.load("{name}").module()  # it needs torch, and no deqlight
```

{sizes}"""


def card(trained: Trained, told: Mapping[str, Any], file: Path, size: int | None) -> str:
    """The text of the card, in Markdown.

    Args:
        trained: the network.
        told: its name, its configuration, and the origin that the checkpoint tells.
        file: what was written.
        size: the one batch size that a program takes.
    """
    manifest, origin = _manifest(trained.path), told.get("origin") or {}
    sizes = (
        "It takes batches of other sizes too." if size is None else f"It takes batches of {size} samples, as traced."
    )
    load = LOAD.format(name=file.name) if file.name == weights.NAME else RUN.format(name=file.name, sizes=sizes)
    ran = {**{"seed": origin.get("seed"), "world size": origin.get("world_size")}, **(origin.get("batch") or {})}
    parts = {
        f"# {told['name']}": _table({**_what(trained.network), "task": type(trained.task).__name__}),
        "## How to load it": load,
        "## Data": _table(_flat(told["config"].get("data") or {})),
        "## Metrics": _table(dict(_metrics(trained.path, manifest))) or "None were recorded.",
        "## Training": _table({**ran, "epochs": manifest.get("epochs"), "steps": manifest.get("steps")}),
        "## Cost": _table(manifest.get("solver") or {}) or "Not recorded.",
        "## Versions": _table(origin.get("versions") or {}) or "Not recorded.",
        "## File": _table({"name": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}),
        "## Configuration": f"```yaml\n{as_yaml(told['config'])}```",
    }
    return "\n\n".join(f"{title}\n\n{text}" for title, text in parts.items()) + "\n"


def as_yaml(config: Mapping[str, Any]) -> str:
    """A configuration as a file of one."""
    return yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)


def _what(net: nn.Module) -> dict[str, Any]:
    """Class, size, and the scheme that the network is: its solver, and the order that this has."""
    found: dict[str, Any] = {
        "network": type(net).__name__,
        "parameters": f"{sum(p.numel() for p in net.parameters()):,}",
    }
    solvers = [one for module in net.modules() for one in vars(module).get("solvers", ()) if isinstance(one, Solver)]
    if solvers:
        info = solvers[0].info
        found |= {"solver": type(solvers[0]).__name__, "order": info.order, "evaluations a step": info.nfe_step}
    for part in ("controller", "gradient"):
        value = vars(net).get(part)
        if value is not None:
            found[part] = repr(value)
    return found


def _metrics(source: Path, manifest: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Those of the run's last epoch, its best score, and those of its newest test."""
    for name, value in sorted((manifest.get("metrics") or {}).items()):
        if not name.endswith("_step"):
            yield f"{name} (last epoch)", f"{value:.6g}"
    best = manifest.get("best")
    if best:
        yield f"best {best['metric']}", f"{best['score']:.6g}"
    tests = sorted((source.parent.parent / "test").glob("version_*/metrics.csv"), key=lambda path: path.stat().st_mtime)
    if tests:
        with tests[-1].open(newline="") as file:
            rows = list(csv.DictReader(file))
        for name, text in sorted(rows[-1].items()) if rows else ():
            if name.startswith("test/"):
                yield f"{name} ({tests[-1].parent.name} of the tests)", text


def _manifest(source: Path) -> dict[str, Any]:
    """The manifest of the run that a checkpoint lies in; nothing where it has none."""
    try:
        found = json.loads((source.parent.parent / MANIFEST).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _flat(node: Any, key: str = "") -> dict[str, Any]:
    """A section of a configuration as names and values."""
    if not isinstance(node, Mapping):
        return {key: node}
    return {name: value for part, below in node.items() for name, value in _flat(below, part).items()}


def _table(rows: Mapping[str, Any]) -> str:
    lines = [f"| {name} | {value} |" for name, value in rows.items() if value is not None]
    return "\n".join(["| | |", "|---|---|", *lines]) if lines else ""
