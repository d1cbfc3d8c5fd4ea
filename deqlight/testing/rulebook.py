"""Station: the measuring bench, its claims. What is asked of a gradient rule, ours and anyone's."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..errors import ConformanceError, InputError
from ..gradients import Gradient
from ..solvers import Solver
from . import rules
from .claim import Claim, unmade
from .finding import EXACT, Finding, Measurement, below, gap
from .report import Report
from .setting import Setting, setting_for

__all__ = ["RULES", "check_gradient", "gradient_claims", "gradient_report"]

WITHIN, WITHIN_TOLERANCE = 1e-10, 1e-6
"""How far gradients may differ from those of `Direct`, relatively, in float64: of a rule that is exact, and of one
whose gradient is that of the equation, where the solve is so fine that both are some 1e-8 apart."""

Instrument = Callable[[Setting], float]

SOLUTION = "With the rule the solve gives other states than without: integrate the problem as it is given."
GRADIENT = (
    "Gradients of the start, or of a parameter, are not those of `Direct`. Look at: every output's gradient added "
    "where the way back passes it, the sums over steps, a parameter used twice, signs. A rule that is not exact says "
    "`exact = False`."
)
PACE = (
    "On equal steps the gradient may be right: lengths of steps, and which were rejected, are those of the way forth."
)
PAIR = "A state may be a tuple of tensors: go over `leaves(y)`, and return a gradient for each."
LAYERS = (
    "Of a network of layers: each step has a field of its own, which `term.over(t0, t1)` chooses, and a layer may be "
    "used again."
)
PARAMETERS = (
    "What backward() leaves in `.grad` is not what it should be: a parameter that is forgotten, one that is used twice "
    "and counted once, or a frozen one that gets a gradient."
)
STRAY = (
    "The rule writes to `.grad` while gradients are only asked for: return them from the backward of an "
    "autograd.Function whose inputs are the parameters, and call torch.autograd.grad inside, not backward()."
)
COUNT = "stats.nfe_backward must tell the field evaluations of the backward pass, once it has run."
SECOND = (
    "Second derivatives are wrong. Give them right, or raise InputError from a backward in which grad mode is on: "
    "there the engine builds a graph."
)
DROPOUT = (
    "On the way back the field draws other masks, or moves the random state: evaluate problem.term, whose guard draws "
    "again what was drawn, or raise InputError."
)
BATCH_NORM = (
    "Infinite: the batch was counted more than once, or not at all. Evaluate problem.term, whose guard counts it once."
)
CONTEXT = "A term declares tensors besides its parameters: take all of `term.tensors(t0, t1)`."
UNDECLARED = "A tensor that the term does not declare gets a wrong gradient, or none, in silence: raise InputError."
TWICE = "Two backward passes through one solve, with retain_graph, differ: keep nothing of the first for the second."
CHANGED = "A parameter was changed before the backward pass, and the gradient is of neither: raise InputError."
COPIES = (
    "A copy of the rule gives other gradients: what it needs must be attributes that pickle and deepcopy take along."
)
KINDS = "States and gradients must have the dtype of the state and the parameters."
UNWATCHED = "Where nothing needs a gradient, integrate without a graph."


def _within(setting: Setting) -> float:
    return WITHIN if setting.gradient.exact else WITHIN_TOLERANCE


def _right(instrument: Instrument, why: str) -> Callable[[Setting], Finding]:
    """A gap to `Direct` that should be closed."""
    return lambda setting: below(_within(setting), instrument(setting), why)


def _right_or_refused(instrument: Instrument, why: str) -> Callable[[Setting], Finding]:
    """The same of what a rule may refuse, in a word."""

    def measure(setting: Setting) -> Finding:
        claimed = f"< {_within(setting):.0e}, or refused"
        try:
            found = below(_within(setting), instrument(setting), why)
        except InputError:
            return Finding(claimed, "refused", True)
        return Finding(claimed, found.measured, found.ok, why)

    return measure


def _stray(setting: Setting) -> Finding:
    found = rules.stray_gradients(setting)
    return Finding("not written", ", ".join(found) or "not written", not found, STRAY)


def _evaluations(setting: Setting) -> Finding:
    told, counted = rules.backward_evaluations(setting)
    return Finding(f"{told} told", f"{counted} counted", told == counted, COUNT)


def _kinds(setting: Setting) -> Finding:
    found = rules.kept_kinds(setting)
    return Finding("float32", found, found == "float32", KINDS)


def _unwatched(setting: Setting) -> Finding:
    found = rules.unwatched(setting)
    return Finding("no graph", ", ".join(found) or "no graph", not found, UNWATCHED)


def _always(setting: Setting) -> bool:
    return True


RULES: tuple[Measurement[Setting], ...] = (
    Measurement("solution", _always, gap(rules.solution_gap, EXACT, SOLUTION)),
    Measurement("equal steps", _always, _right(rules.equal_steps_gap, GRADIENT)),
    Measurement("shared steps", lambda s: s.accepts(s.joint), _right(rules.shared_steps_gap, PACE)),
    Measurement("own steps", lambda s: s.accepts(s.own), _right(rules.own_steps_gap, PACE)),
    Measurement("own times", _always, _right_or_refused(rules.own_times_gap, PACE)),
    Measurement("pairs", _always, _right_or_refused(rules.pair_gap, PAIR)),
    Measurement("layers", lambda s: s.gradient.exact and not s.gradient.steady, _right(rules.layers_gap, LAYERS)),
    Measurement("parameters", _always, _right(rules.parameter_gap, PARAMETERS)),
    Measurement("context", _always, _right(rules.context_gap, CONTEXT)),
    Measurement("undeclared", _always, _right_or_refused(rules.undeclared_gap, UNDECLARED)),
    Measurement(".grad", _always, _stray),
    Measurement("backward evaluations", _always, _evaluations),
    Measurement("second derivative", _always, _right_or_refused(rules.second_gap, SECOND)),
    Measurement("backward twice", _always, gap(rules.repeat_gap, EXACT, TWICE)),
    Measurement("dropout", _always, _right_or_refused(rules.dropout_gap, DROPOUT)),
    Measurement("batch norm", _always, _right_or_refused(rules.batch_norm_gap, BATCH_NORM)),
    Measurement("changed in place", _always, _right_or_refused(rules.changed_gap, CHANGED)),
    Measurement("copies", _always, gap(rules.pickled_gap, EXACT, COPIES)),
    Measurement("float32", _always, _kinds),
    Measurement("no gradient", _always, _unwatched),
)
"""Everything that is asked of gradient rules; each stands in `docs/plugin/claims.md`."""


def gradient_claims(cls: type[Gradient], solver: Solver | None = None) -> Iterator[Claim[Setting]]:
    """All that is asked of every instance that `cls.examples()` returns, each with a solver that it accepts.

    Args:
        cls: the rule.
        solver: to measure with; None for the first of the kit's that is accepted.
    """
    for gradient in cls.examples():
        setting = setting_for(gradient, solver)
        yield from (Claim(setting, cls, m) for m in RULES if m.made(setting))


def gradient_report(cls: type[Gradient], solver: Solver | None = None) -> Report:
    """Measure a class of gradient rules."""
    try:
        found = tuple(gradient_claims(cls, solver))
    except Exception as error:  # a guest's `examples`, or what `__init__` asks for
        return unmade(cls, error)
    return Report(cls.__name__, tuple(claim.row() for claim in found))


def check_gradient(cls: type[Gradient], solver: Solver | None = None) -> Report:
    """Measure a class of gradient rules against `Direct`, on the instances that its `examples()` returns.

    Args:
        cls: the rule.
        solver: to measure with; None for the first of the kit's that is accepted.

    Raises:
        ConformanceError: with the table of measurements, if a claim does not hold.

    >>> from deqlight.gradients import Checkpoint
    >>> check_gradient(Checkpoint).ok
    True
    """
    found = gradient_report(cls, solver)
    if not found.ok:
        raise ConformanceError(f"{cls.__name__} does not do what it claims\n{found}")
    return found
