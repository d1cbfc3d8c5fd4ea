"""A race: entrants that do the same work in turn, their times, evaluations and memory, and their targets.

The forward pass is taken without autograd, as in an evaluation; "both" is a forward and a backward pass, for the
gradients of the state and of all parameters.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from deqlight import DeqlightError, record
from deqlight.testing.memory import gradients, measured_memory
from deqlight.testing.timing import interleaved, median_ratio

from .entrants import Absent, Run
from .floor import Calls, Floor, count

FORWARD, BOTH = "forward", "both"
PASSES = (FORWARD, BOTH)
FLOOR = "floor"


@dataclass(frozen=True)
class Target:
    """What a ratio may be at most, and to whose time: another entrant's, or the floor."""

    most: float
    to: str = FLOOR


@dataclass(frozen=True)
class Entrant:
    """One who takes part.

    Attributes:
        name: as the tables have it.
        start: makes the forward pass; raises `Absent`.
        targets: by pass.
        floor_of: the entrant whose evaluations are the floor; None for its own. Methods that evaluate again on the way
            back are measured by those that need not.
        visible: whether hooks and the memory instrument see into it; they do not into compiled functions.
        most_mib: what it may keep for its backward pass.
    """

    name: str
    start: Callable[[], Run]
    targets: Mapping[str, Target] = field(default_factory=dict)
    floor_of: str | None = None
    visible: bool = True
    most_mib: float | None = None


@dataclass(frozen=True)
class Race:
    """Entrants and what they do.

    Attributes:
        name: in a few words.
        about: field, sizes, tolerances.
        fields: the modules whose calls are evaluations.
        y0: the state, which needs a gradient.
        entrants: who takes part.
        floored: whether a floor is run; it takes one field.
        passes: what is timed.
    """

    name: str
    about: str
    fields: Sequence[nn.Module]
    y0: Tensor
    entrants: Sequence[Entrant]
    floored: bool = True
    passes: Sequence[str] = PASSES

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """What gradients are taken with respect to."""
        return (self.y0, *(parameter for module in self.fields for parameter in module.parameters()))


@dataclass
class Starter:
    """An entrant at the start: its forward pass, and what was counted of it."""

    entrant: Entrant
    run: Run
    calls: Calls
    mib: tuple[float, float] | None
    floor: Calls | None = None

    def passes(self, inputs: Sequence[Tensor]) -> dict[str, Callable[[], Any]]:
        """What is timed."""

        def forward() -> Tensor:
            with torch.no_grad():
                return self.run()

        return {FORWARD: forward, BOTH: lambda: gradients(self.run(), inputs)}


def hold(race: Race, rounds: int, say: Callable[[str], None] = print) -> list[dict[str, Any]]:
    """Hold a race; the rows of its table."""
    starters: dict[str, Starter] = {}
    rows: list[dict[str, Any]] = []
    for entrant in race.entrants:
        try:
            told = {name: starter.calls for name, starter in starters.items()}
            starters[entrant.name] = _start(race, entrant, told)
        except Absent as reason:
            say(f"  {entrant.name}: skipped, {reason}")
        except DeqlightError as error:
            say(f"  {entrant.name}: FAILED, {error}")
            rows.append({"workload": race.name, "entrant": entrant.name, "failed": str(error)})
    floors: dict[tuple[int, int], Floor] = {}
    for starter in starters.values():
        likeness = starters.get(starter.entrant.floor_of or starter.entrant.name, starter)
        starter.floor = replace(likeness.calls, again=0)
        if race.floored:
            key = (starter.floor.forward, starter.floor.backward)
            floors.setdefault(key, Floor(race.fields[0], race.y0, starter.floor))
    for part in race.passes:
        runs = {name: starter.passes(race.inputs)[part] for name, starter in starters.items()}
        runs |= {_floor_name(key): getattr(floor, part) for key, floor in floors.items()}
        times = interleaved(runs, rounds, warm_up=2)
        rows += [_row(race, part, starter, times) for starter in starters.values()]
    return rows


def _start(race: Race, entrant: Entrant, told: Mapping[str, Calls]) -> Starter:
    """Run both passes once, and count."""
    run = entrant.start()
    if entrant.visible:
        calls, memory = count(race.fields, run, race.inputs), measured_memory(run, race.inputs)
        starter = Starter(entrant, run, calls, (memory.kept_mib, memory.peak_mib))
    else:
        starter = Starter(entrant, run, _as_told(run, told[entrant.floor_of or ""]), None)
    for part in race.passes:
        starter.passes(race.inputs)[part]()
    return starter


def _as_told(run: Run, likeness: Calls) -> Calls:
    """The evaluations that deqlight tells of, where nothing can be seen from outside; products as another's."""
    with record() as solves:
        output = run()
    nfe = int(solves[0].nfe.max())
    return replace(likeness, forward=nfe, rows=nfe * len(output))


def _row(race: Race, part: str, starter: Starter, times: Mapping[str, list[float]]) -> dict[str, Any]:
    """All that is said of an entrant and a pass."""
    entrant, calls, own = starter.entrant, starter.calls, times[starter.entrant.name]
    row: dict[str, Any] = {
        "workload": race.name,
        "entrant": entrant.name,
        "pass": part,
        "seconds": statistics.median(own),
        "nfe": calls.forward,
        "nfe per sample": round(calls.rows / len(race.y0), 2),
    }
    if part == BOTH:
        row |= {"nfe backward": calls.again, "products": calls.backward}
    against = {FLOOR: times.get(_floor_name((starter.floor.forward, starter.floor.backward)))}
    against |= {name: found for name, found in times.items() if name != entrant.name}
    for name in (FLOOR, "torchdiffeq"):
        if against.get(name):
            row[f"ratio to {name}"] = round(median_ratio(own, against[name]), 4)
    target = entrant.targets.get(part)
    if target is not None and against.get(target.to):
        found = round(median_ratio(own, against[target.to]), 4)
        row |= {"target": f"{target.most:g} × {target.to}", "measured": found, "met": found <= target.most}
    if part == BOTH and starter.mib is not None:
        row |= {"MiB kept": round(starter.mib[0], 2), "MiB peak": round(starter.mib[1], 2)}
        if entrant.most_mib is not None:
            row |= {"target MiB": entrant.most_mib, "MiB met": starter.mib[0] <= entrant.most_mib}
    return row


def _floor_name(key: tuple[int, int]) -> str:
    return f"floor of {key[0]} evaluations and {key[1]} products"
