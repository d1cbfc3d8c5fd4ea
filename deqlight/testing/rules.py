"""Station: the measuring bench, its instruments for gradient rules. Numbers, each of which should be small."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable

import torch
from torch import nn

from ..controllers import Controller
from ..errors import InputError
from ..gradients import Gradient
from ..solvers import Solver
from ..solving import solve
from ..states import each, leaves
from ..terms import Layered, ODETerm, Term
from ..types import FieldFn, State, Tensor
from .cost import Counter
from .setting import DIRECT, Bent, Setting, crossed, derivatives, distant, loss_of, pair, setting_for, slopes, start
from .trial import biggest

__all__ = [
    "backward_evaluations",
    "batch_norm_gap",
    "changed_gap",
    "context_gap",
    "dropout_gap",
    "equal_steps_gap",
    "kept_kinds",
    "layers_gap",
    "own_steps_gap",
    "own_times_gap",
    "pair_gap",
    "parameter_gap",
    "pickled_gap",
    "repeat_gap",
    "rule_gap",
    "second_gap",
    "shared_steps_gap",
    "solution_gap",
    "stray_gradients",
    "undeclared_gap",
    "unwatched",
]

SEED = 0
"""Of the masks that a field draws."""


def rule_gap(gradient: Gradient, solver: Solver | None = None) -> float:
    """The largest difference, relatively, between a rule's gradients and those of `Direct`, on equal steps.

    With respect to the start, a matrix that is used twice and a bias; the loss has a share of every output.

    Raises:
        InputError: if the rule does not accept the solver; without one, if it accepts none of the kit's.
    """
    return equal_steps_gap(setting_for(gradient, solver))


def compared(setting: Setting, run: Callable[[Gradient], list[Tensor]]) -> float:
    """The relative difference between what a run gives with the rule and with `Direct`."""
    expected = run(DIRECT)
    return distant(run(setting.gradient), expected)


def equal_steps_gap(setting: Setting) -> float:
    """The difference of gradients on equal steps."""
    return _of_solve(setting, lambda: (ODETerm(Bent()), start()))


def solution_gap(setting: Setting) -> float:
    """The difference between the states that the solve gives with the rule and with `Direct`."""
    term, y0 = ODETerm(Bent()), start()
    direct, other = (setting.solved(term, y0, gradient=rule).ys for rule in (DIRECT, setting.gradient))
    return biggest(each(lambda a, b: (a - b).detach(), direct, other))


def shared_steps_gap(setting: Setting) -> float:
    """The difference of gradients with measured steps that all samples share."""
    return _of_solve(setting, lambda: (ODETerm(Bent()), start()), controller=setting.joint)


def own_steps_gap(setting: Setting) -> float:
    """The difference of gradients with measured steps, each sample its own."""
    return _of_solve(setting, lambda: (ODETerm(Bent()), start()), controller=setting.own)


def own_times_gap(setting: Setting) -> float:
    """The difference of gradients with times of outputs that each sample has for itself."""
    ts = torch.tensor(setting.ts, dtype=torch.float64)[:, None] * torch.tensor([1.0, 0.9, 1.1], dtype=torch.float64)
    return _of_solve(setting, lambda: (ODETerm(Bent()), start()), ts=ts)


def pair_gap(setting: Setting) -> float:
    """The difference of gradients for a state that is a pair of tensors."""
    return _of_solve(setting, lambda: (crossed(Bent()), pair()))


def layers_gap(setting: Setting) -> float:
    """The difference of gradients of a network of four layers, the first of which is the last as well."""

    def run(rule: Gradient) -> list[Tensor]:
        y0, blocks = start(), [Bent() for _ in range(3)]
        term = Layered([*blocks, blocks[0]])
        solution = solve(term, y0, [0.0, 1.0, 2.0, 3.0, 4.0], solver=setting.solver, gradient=rule)
        return slopes(loss_of(solution), [y0, *(p for p in term.parameters() if p.requires_grad)])

    return compared(setting, run)


def parameter_gap(setting: Setting) -> float:
    """The difference of what `backward()` leaves in `.grad` of all parameters; infinite if a frozen one gets any."""
    stray = False

    def run(rule: Gradient) -> list[Tensor]:
        nonlocal stray
        field, y0 = Bent(), start().detach()
        solution = setting.solved(ODETerm(field), y0, gradient=rule)
        torch.autograd.backward(loss_of(solution, setting.gradient.steady))
        stray = stray or field.frozen.grad is not None or y0.grad is not None
        parameters = (field.weight, field.bias, field.spare)
        return [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]

    gap = compared(setting, run)
    return math.inf if stray else gap


def stray_gradients(setting: Setting) -> list[str]:
    """The names of tensors whose `.grad` is written to while `torch.autograd.grad` asks for gradients."""
    field, y0 = Bent(), start()
    term = ODETerm(field)
    derivatives(setting, term, y0, setting.solved(term, y0))
    return [name for name, tensor in (("y0", y0), *field.named_parameters()) if tensor.grad is not None]


def backward_evaluations(setting: Setting) -> tuple[int, int]:
    """Field evaluations of a backward pass, as the statistics tell them and as a hook counts them."""
    counter, y0 = Counter(), start()
    term = ODETerm(Bent()).wrap(counter)
    solution = setting.solved(term, y0)
    before = counter.calls
    derivatives(setting, term, y0, solution)
    return solution.stats.nfe_backward, counter.calls - before


def second_gap(setting: Setting) -> float:
    """The difference of second derivatives: of the squared gradients with respect to the start and the matrix."""

    def run(rule: Gradient) -> list[Tensor]:
        field, y0 = Bent(), start()
        loss = loss_of(setting.solved(ODETerm(field), y0, gradient=rule), setting.gradient.steady)
        first = torch.autograd.grad(loss, [y0, field.weight], create_graph=True)
        total = torch.stack([g.square().sum() for g in first]).sum()
        return slopes(total, [y0, field.weight]) if total.requires_grad else [0 * y0, 0 * field.weight]

    return compared(setting, run)


def dropout_gap(setting: Setting) -> float:
    """The difference of gradients of a field with dropout; infinite if a backward pass draws numbers for itself."""
    moved = False

    def run(rule: Gradient) -> list[Tensor]:
        nonlocal moved
        term, y0 = ODETerm(Bent(nn.Dropout(0.5))), start()
        torch.manual_seed(SEED)
        solution = setting.solved(term, y0, gradient=rule)
        before = torch.get_rng_state()
        grads = derivatives(setting, term, y0, solution)
        moved = moved or not torch.equal(before, torch.get_rng_state())
        return grads

    with torch.random.fork_rng(devices=[]):
        gap = compared(setting, run)
    return math.inf if moved else gap


def batch_norm_gap(setting: Setting) -> float:
    """The difference of gradients of a field with batch norm; infinite if the batch is not counted exactly once."""
    miscounted = False

    def run(rule: Gradient) -> list[Tensor]:
        nonlocal miscounted
        norm = nn.BatchNorm1d(start().shape[1], dtype=torch.float64)
        term, y0 = ODETerm(Bent(norm)), start()
        grads = derivatives(setting, term, y0, setting.solved(term, y0, gradient=rule))
        miscounted = miscounted or norm.num_batches_tracked is None or int(norm.num_batches_tracked) != 1
        return grads

    gap = compared(setting, run)
    return math.inf if miscounted else gap


def context_gap(setting: Setting) -> float:
    """The difference of gradients of a tensor that a term declares as its context, and that has a graph of its own."""

    def run(rule: Gradient) -> list[Tensor]:
        scale, y0 = _scale(), start()
        context = scale * 2
        term = ODETerm(_pulled_by(context), context=[context])
        return slopes(loss_of(setting.solved(term, y0, gradient=rule), setting.gradient.steady), [scale, y0])

    return compared(setting, run)


def undeclared_gap(setting: Setting) -> float:
    """The same of a tensor that the term does not declare."""

    def run(rule: Gradient) -> list[Tensor]:
        scale, y0 = _scale(), start()
        solution = setting.solved(ODETerm(_pulled_by(scale)), y0, gradient=rule)
        return slopes(loss_of(solution, setting.gradient.steady), [scale, y0])

    return compared(setting, run)


def repeat_gap(setting: Setting) -> float:
    """The difference between the gradients of two backward passes through one solve."""
    term, y0 = ODETerm(Bent()), start()
    solution = setting.solved(term, y0)
    first = [g.clone() for g in derivatives(setting, term, y0, solution, retain=True)]
    return distant(derivatives(setting, term, y0, solution), first)


def changed_gap(setting: Setting) -> float:
    """The difference that it makes to the gradients when a parameter is written to before the backward pass.

    Raises:
        InputError: if the rule, or autograd, notices.
    """
    field, y0 = Bent(), start()
    term = ODETerm(field)
    expected = derivatives(setting, term, y0, setting.solved(term, y0))
    solution = setting.solved(term, y0)
    with torch.no_grad():
        field.weight.mul_(2.0)
    try:
        return distant(derivatives(setting, term, y0, solution), expected)
    except RuntimeError as error:  # autograd's word for it
        raise InputError(str(error)) from error


def pickled_gap(setting: Setting) -> float:
    """The difference between the gradients of a rule and those of its copies."""
    term, y0 = ODETerm(Bent()), start()

    def grads(rule: Gradient) -> list[Tensor]:
        return derivatives(setting, term, y0, setting.solved(term, y0, gradient=rule))

    copied: list[Callable[[Gradient], Gradient]] = [copy.deepcopy, lambda rule: pickle.loads(pickle.dumps(rule))]
    expected = grads(setting.gradient)
    return max(distant(grads(make(setting.gradient)), expected) for make in copied)


def kept_kinds(setting: Setting) -> str:
    """The dtypes of states and gradients of a solve in float32."""
    term, y0 = ODETerm(Bent(dtype=torch.float32)), start(torch.float32)
    solution = setting.solved(term, y0)
    found = {leaf.dtype for leaf in (*leaves(solution.ys), *derivatives(setting, term, y0, solution))}
    return ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in found))


def unwatched(setting: Setting) -> list[str]:
    """Where the states of a solve need a gradient although nothing does: under `no_grad`, and without parameters."""
    with torch.no_grad():
        under = setting.solved(ODETerm(Bent()), start())
    constant = setting.solved(ODETerm(lambda t, y: each(torch.neg, y)), start().detach())
    cases = {"under no_grad": under, "of constants": constant}
    return [name for name, solution in cases.items() if any(leaf.requires_grad for leaf in leaves(solution.ys))]


def _of_solve(
    setting: Setting,
    make: Callable[[], tuple[Term, State]],
    controller: Controller | None = None,
    ts: Tensor | None = None,
) -> float:
    """The relative difference between a rule's gradients of a solve and those of `Direct`."""

    def run(rule: Gradient) -> list[Tensor]:
        term, y0 = make()
        return derivatives(setting, term, y0, setting.solved(term, y0, gradient=rule, controller=controller, ts=ts))

    return compared(setting, run)


def _scale() -> Tensor:
    return torch.linspace(0.2, 0.8, start().shape[1], dtype=torch.float64, requires_grad=True)


def _pulled_by(scale: Tensor) -> FieldFn:
    """A field that closes over a tensor."""
    return lambda t, y: each(lambda leaf: torch.tanh(scale * leaf + scale) / 4 - leaf, y)
