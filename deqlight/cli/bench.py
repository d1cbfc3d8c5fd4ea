"""Station 1, the bench: before a solver is chosen, what each costs on this network, and how good its gradients are."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from torch.utils._pytree import tree_leaves

from ..errors import ConfigError, StatisticsWarning
from ..plugin.manager import host as load_host
from ..types import Tensor
from . import runs
from .bench_gradients import DIRECT, against_direct, against_exact
from .bench_plan import Choice, Plan
from .bench_rows import Refused, Row, counted, refusal, timed
from .bench_table import Found, lines, plain, table
from .line import Line
from .quiet import hush
from .start import prepare

__all__ = ["bench"]

WIDTH = 132
"""Of the table, where the output is no terminal."""
SOLVERS = ("Heun", "Dopri5", "RK4", "Tsit5")
"""What is offered beside an experiment's own solver: the first `MOST` of these that go with its network."""
MOST = 2
GRADIENTS = ("Direct", "Checkpoint", "Backsolve", "Reversible")
"""What is offered beside its own gradient method: those that go with its solver."""


def bench(line: Line, console: Console | None = None) -> int:
    """Measure, print a table, and write the numbers if asked to.

    Raises:
        DeqlightError: for whatever is wrong with the request.
    """
    screen = console or Console(width=None if sys.stdout.isatty() else WIDTH)
    from .. import data, nets, tasks  # noqa: F401  a class is found by its name only once it is there

    runs.forget()
    plan = Plan(prepare(line, load_host(*map(Path, line.plugins))))
    output = _writable(plan.settings["output"])
    with screen.status("measuring"), _quiet():
        found = _measured(plan, _choices(plan))
    if found.rows:
        screen.print(table(plan, found))
    for told in lines(plan, found):
        screen.print(told)
    if output:
        output.write_text(json.dumps(plain(plan, found), indent=1, ensure_ascii=False) + "\n")
    return 0


def _measured(plan: Plan, choices: Sequence[Choice]) -> Found:
    """Count, weigh, time and compare all choices."""
    rows: list[Row] = []
    refused: list[Refused] = []
    batch = plan.batch()
    for choice in choices:
        try:
            rows.append(counted(plan, choice, batch))
        except Exception as error:
            refused.append(Refused(choice, refusal(error)))
    timed(rows, plan.settings["rounds"], plan.device)
    against_direct(plan, rows, batch)
    size = next(len(leaf) for leaf in tree_leaves(batch) if isinstance(leaf, Tensor))
    return Found(size, rows, refused, against_exact(plan, rows, batch))


@contextmanager
def _quiet() -> Iterator[None]:
    """Each warning once; none about running statistics, and none of Lightning's about a step without a trainer."""
    hush()
    with warnings.catch_warnings():
        warnings.simplefilter("once")
        warnings.simplefilter("ignore", StatisticsWarning)
        warnings.filterwarnings("ignore", message=r".*self\.log\(\)` but the `self\.trainer` reference.*")
        yield


def _choices(plan: Plan) -> list[Choice]:
    """Every solver with every controller and every gradient method; the experiment's own comes first, unless asked."""
    solvers: list[str | None] = [*plan.asked("solver")]
    if not solvers:
        others = [name for name in SOLVERS if name != plan.own("solver") and _goes(plan, Choice(name, gradient=DIRECT))]
        solvers = [None, *others[:MOST]]
    gradients: list[str | None] = [*plan.asked("gradient")]
    if not gradients:
        own = plan.own("gradient")
        gradients = [None, *(name for name in GRADIENTS if name != own and _goes(plan, Choice(gradient=name)))]
    controllers: list[str | None] = [*plan.asked("controller")]
    return [Choice(s, c, g) for s in solvers for c in controllers or [None] for g in gradients]


def _goes(plan: Plan, choice: Choice) -> bool:
    """Whether the network can be built so."""
    try:
        plan.task(choice)
    except Exception as error:
        refusal(error)
        return False
    return True


def _writable(given: str | None) -> Path | None:
    """Where the numbers go; refused before the measuring, not after."""
    if given is None:
        return None
    path = Path(given).expanduser()
    if not path.parent.is_dir() or path.is_dir():
        raise ConfigError(f"--output {given} cannot be written: it must be a file in a folder that exists")
    return path
