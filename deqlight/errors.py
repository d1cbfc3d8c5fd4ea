"""Station 0, the refusals: every error that deqlight raises on purpose.

Each message says what was given, what is accepted, and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

__all__ = [
    "CheckpointError",
    "CompileFailure",
    "ConfigError",
    "ConformanceError",
    "DataError",
    "DeqlightError",
    "InputError",
    "MaxSteps",
    "NoConvergence",
    "NonFinite",
    "OtherRank",
    "PluginError",
    "PluginWarning",
    "ShapeError",
    "SolverFailure",
    "StatisticsWarning",
    "StepUnderflow",
    "brief",
    "check_word",
    "suggest",
]


class DeqlightError(Exception):
    """The root of the tree: catching it catches everything deqlight raises on purpose."""


class InputError(DeqlightError, ValueError):
    """An argument that no solve could accept; raised before any work is done."""


class ShapeError(InputError):
    """A tensor whose shape or dtype does not fit; the message shows both."""


class ConfigError(DeqlightError):
    """A configuration or a command line that cannot be read as one."""


class CheckpointError(DeqlightError):
    """A checkpoint that is missing, unreadable or of another kind."""


class DataError(DeqlightError):
    """A file of a data set that is missing, cannot be fetched, or is not what it should be."""


class CompileFailure(DeqlightError, RuntimeError):
    """A solve that was to be compiled and cannot be."""


class PluginError(DeqlightError):
    """A plugin that cannot be used; names the distribution that owns it."""


class PluginWarning(UserWarning):
    """A plugin was disabled and everything else goes on; names the distribution that owns it."""


class StatisticsWarning(UserWarning):
    """Running statistics inside a field will be those of its first evaluation, and used for all."""


class ConformanceError(DeqlightError, AssertionError):
    """A solver does not do what its `info` claims; the message is the table of measurements."""


class SolverFailure(DeqlightError, RuntimeError):
    """A solve that could not be finished.

    Attributes:
        t: time at the start of the failed step, None where no step was begun.
        dt: signed length of that step.
        step: number of the step, counted from 0; None on adaptive solves, where samples differ.
        samples: indices of the failed samples along the batch axis.
        nfe: field evaluations spent until then.
        hint: what to try.
        what: what happened, without the numbers.
    """

    def __init__(
        self,
        what: str,
        *,
        hint: str,
        t: float | None = None,
        dt: float | None = None,
        step: int | None = None,
        samples: Sequence[int] = (),
        nfe: int | None = None,
    ) -> None:
        self.t, self.dt, self.step, self.samples, self.nfe, self.hint = t, dt, step, tuple(samples), nfe, hint
        self.what = what
        facts = {"t": t, "dt": dt, "step": step, "samples": brief(self.samples) or None, "nfe": nfe}
        told = ", ".join(
            f"{k} = {v:.6g}" if isinstance(v, float) else f"{k} = {v}" for k, v in facts.items() if v is not None
        )
        super().__init__(f"{what}{f' ({told})' if told else ''}. {hint}")

    def among(self, samples: Sequence[int]) -> SolverFailure:
        """The same failure of other samples: where it was found in a part of a batch, those of the whole."""
        facts = {"t": self.t, "dt": self.dt, "step": self.step, "samples": samples, "nfe": self.nfe}
        return type(self)(self.what, hint=self.hint, **facts)  # type: ignore[arg-type]  # one type for each key

    def at(self, place: str) -> SolverFailure:
        """The same failure, with the place in a training where it happened."""
        facts = {"t": self.t, "dt": self.dt, "step": self.step, "samples": self.samples, "nfe": self.nfe}
        return type(self)(f"{place}: {self.what}", hint=self.hint, **facts)  # type: ignore[arg-type]  # as above

    @property
    def kind(self) -> str:
        """The failure's name, as reports print it."""
        return type(self).__name__


class OtherRank(DeqlightError):
    """Another rank has failed, and this one stops with it.

    Attributes:
        diverged: whether it was the numbers that failed there.
    """

    def __init__(self, told: str, *, diverged: bool) -> None:
        super().__init__(told)
        self.diverged = diverged


class NonFinite(SolverFailure):
    """The state or the field became NaN or infinite."""


class MaxSteps(SolverFailure):
    """The solve needs more than `max_steps` steps."""


class StepUnderflow(SolverFailure):
    """The step size fell below what the time's floating-point format resolves."""


class NoConvergence(SolverFailure):
    """The inner iteration of an implicit step did not converge."""


def check_word(name: str, what: str, got: object, known: Sequence[str]) -> None:
    """Raise `InputError` for an option `what` of `name` that is not one of the known words."""
    if got not in known:
        raise InputError(f"{name} got {what}={got!r}; it must be one of {', '.join(known)}")


def suggest(given: str, accepted: Iterable[str]) -> str:
    """A "did you mean" clause, blind to case, followed by the list of what is accepted."""
    names = sorted(set(accepted))
    by_fold = {name.casefold(): name for name in names}
    near = get_close_matches(given.casefold(), by_fold, n=1, cutoff=0.5)
    hint = f"did you mean {by_fold[near[0]]}? " if near else ""
    return f"{hint}accepted: {', '.join(names) or 'nothing'}"


def brief(samples: Sequence[int], most: int = 8) -> str:
    """The first few of some numbers, and how many there are."""
    shown = ", ".join(map(str, samples[:most]))
    return f"[{shown}{f', … {len(samples)} in all' if len(samples) > most else ''}]" if samples else ""
