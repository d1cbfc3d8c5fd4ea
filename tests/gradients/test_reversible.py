"""Reversible gradients are the direct ones, in memory that does not grow with depth, and refuse what they cannot do."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from deqlight import Layered, ODETerm, Partitioned, SaveAt, solve
from deqlight.controllers import PID, Constant
from deqlight.errors import InputError
from deqlight.fields import Antisymmetric, PreActivation
from deqlight.gradients import Direct, Reversible
from deqlight.solvers import RK4, Dopri5, Euler, Leapfrog, ReversiblePair, Stormer, SymplecticEuler, Verlet

SAME = 1e-10  # relative, of two exact gradients in float64


class Tanh(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, t, y):
        return 0.3 * torch.tanh(self.linear(y)) * (1 + 0.1 * t)


def layered(n):
    return Layered([Tanh() for _ in range(n)])


CASES = {
    "leapfrog, layers": (Leapfrog(), lambda: layered(10), False),
    "leapfrog, shared": (Leapfrog(), lambda: ODETerm(Tanh()), False),
    "stormer": (Stormer(), lambda: layered(10), False),
    "symplectic": (SymplecticEuler(), lambda: Partitioned(layered(10), layered(10)), True),
    "verlet, layers": (Verlet(), lambda: Partitioned(layered(10), layered(10)), True),
    "verlet, shared": (Verlet(), lambda: Partitioned(Tanh(), Tanh()), True),
}


def gradients(term, y0, ts, loss, **options):
    solution = solve(term, y0, ts, **options)
    inputs = list(y0 if isinstance(y0, tuple) else (y0,))
    tensors = [*inputs, *term.parameters()]
    grads = torch.autograd.grad(loss(solution.ys), tensors, allow_unused=True, materialize_grads=True)
    return grads, solution.stats


def close(a, b):
    scale = max(float(g.abs().max()) for g in a)
    return max(float((g - h).abs().max()) for g, h in zip(a, b, strict=True)) / scale


def every_output(ys):
    parts = ys if isinstance(ys, tuple) else (ys,)
    return sum((part * torch.arange(1, part.numel() + 1).reshape(part.shape)).square().sum() for part in parts)


@pytest.mark.parametrize("ts", [list(range(11)), list(range(10, -1, -1))], ids=["forward", "reversed time"])
@pytest.mark.parametrize("case", CASES)
def test_equals_direct_with_a_loss_on_every_output(case, ts, double):
    solver, make, paired = CASES[case]
    term = make()
    y = torch.randn(3, 4, requires_grad=True)
    y0 = (y, (y * 2).detach().requires_grad_()) if paired else y
    direct, _ = gradients(term, y0, ts, every_output, solver=solver, gradient=Direct())
    undone, stats = gradients(term, y0, ts, every_output, solver=solver, gradient=Reversible())
    assert close(direct, undone) < SAME
    assert stats.nfe_backward == stats.nfe[0]  # one evaluation for each on the way forth, the carried ones too


def test_equals_direct_on_a_refined_grid_and_for_the_last_output(double):
    term, y0 = layered(4), torch.randn(3, 4, requires_grad=True)
    options = {"solver": Leapfrog(), "controller": Constant(steps=4), "saveat": SaveAt(final=True)}
    direct, _ = gradients(term, y0, [0, 2, 4], every_output, gradient=Direct(), **options)
    undone, _ = gradients(term, y0, [0, 2, 4], every_output, gradient=Reversible(), **options)
    assert close(direct, undone) < SAME


def test_weights_and_states_that_are_shared_count_once(double):
    """One block in all layers and both halves, one tensor for both halves of the state."""
    block, x = Tanh(), torch.randn(3, 4, requires_grad=True)
    term, found = Partitioned(Layered([block] * 5), Layered([block] * 5)), []
    for gradient in (Direct(), Reversible()):
        q, p = solve(term, (x, x), range(6), solver=SymplecticEuler(), gradient=gradient).y1
        found.append(torch.autograd.grad((q * p).sum(), [x, *term.parameters()]))
    assert close(*found) < SAME


@pytest.mark.parametrize("solver", [Leapfrog(), SymplecticEuler(), Verlet()], ids=repr)
def test_two_hundred_layers_are_undone(solver, double):
    layers = 200
    make = lambda: Layered([Antisymmetric(4, scale=0.25) for _ in range(layers)])  # noqa: E731
    x = torch.randn(2, 4, 6, 6)
    paired = solver.info.terms == (Partitioned,)
    term, y0 = (Partitioned(make(), make()), (x, x.flip(0))) if paired else (make(), x)
    y, carry = y0, solver.init(term, 0.0, float(layers), y0)
    with torch.no_grad():
        for n in range(layers):
            y, carry = solver.step(term.over(n, n + 1), float(n), n + 1.0, y, carry)[:2]
        for n in reversed(range(layers)):
            y, carry = solver.unstep(term.over(n, n + 1), float(n), n + 1.0, y, carry)[:2]
    gap = max(float((a - b).abs().max()) for a, b in zip(*((s if paired else (s,)) for s in (y, y0)), strict=True))
    assert gap / float(x.abs().max()) <= 1e-13 * layers


def bytes_saved(layers, gradient):
    term = Partitioned(*(Layered([PreActivation(4) for _ in range(layers)]) for _ in range(2)))
    x = torch.randn(2, 4, 8, 8, requires_grad=True)
    held = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: held.append(t.nbytes) or t, lambda t: t):
        solve(
            term,
            (x, x.flip(0)),
            range(layers + 1),
            solver=SymplecticEuler(),
            gradient=gradient,
            saveat=SaveAt(final=True),
        )
    return sum(held)


def test_bytes_saved_are_flat_in_depth():
    assert bytes_saved(8, Reversible()) == bytes_saved(32, Reversible()) == bytes_saved(128, Reversible())
    assert bytes_saved(32, Direct()) > 3 * bytes_saved(8, Direct())


def test_running_statistics_move_once():
    solver = SymplecticEuler()
    x = torch.randn(4, 4, 8, 8, requires_grad=True)
    found = []
    for gradient in (Direct(), Reversible()):
        torch.manual_seed(1)
        term = Partitioned(*(Layered([PreActivation(4) for _ in range(3)]) for _ in range(2)))
        q, p = solve(term, (x, x.flip(0)), range(4), solver=solver, gradient=gradient).y1
        (q * p).sum().backward()
        norms = [m for m in term.modules() if isinstance(m, nn.BatchNorm2d)]
        assert {int(m.num_batches_tracked) for m in norms} == {1} and all(m.track_running_stats for m in norms)
        found.append(torch.stack([m.running_mean for m in norms]))
    assert torch.equal(*found)


def test_a_declared_context_gets_its_gradient(double):
    scale = torch.randn(4, requires_grad=True)
    context = scale * 2  # not a leaf: the graph goes on outside the solve
    term = ODETerm(lambda t, y: torch.tanh(context * y), context=[context])
    y0, found = torch.randn(3, 4), []
    for gradient in (Direct(), Reversible()):
        y1 = solve(term, y0, range(6), solver=Leapfrog(), gradient=gradient).y1
        found.append(torch.autograd.grad(y1.square().sum(), scale, retain_graph=True)[0])
    assert torch.allclose(*found, rtol=SAME)


class Constantly(nn.Module):
    """A field that is one of its tensors, as it is."""

    def __init__(self, declared):
        super().__init__()
        self.value = nn.Parameter(torch.randn(3, 4))
        self.used = self.value if declared else torch.randn(3, 4, requires_grad=True)

    def forward(self, t, y):
        return self.used


def test_a_field_that_is_its_parameter(double):
    y0 = torch.randn(3, 4, requires_grad=True)
    options = {"solver": Leapfrog(), "loss": every_output, "ts": list(range(5))}
    term = ODETerm(Constantly(declared=True))
    (direct, _), (found, _) = (gradients(term, y0, gradient=rule, **options) for rule in (Direct(), Reversible()))
    assert close(direct, found) < SAME and direct[1].abs().min() > 0
    with pytest.raises(InputError, match="neither a parameter"):
        gradients(ODETerm(Constantly(declared=False)), y0, gradient=Reversible(), **options)


def test_an_undeclared_tensor_is_refused(double):
    hidden = torch.randn(4, requires_grad=True)
    y0 = torch.randn(3, 4, requires_grad=True)
    y1 = solve(ODETerm(lambda t, y: hidden * y), y0, range(4), solver=Leapfrog(), gradient=Reversible()).y1
    with pytest.raises(InputError, match=r"tensor of shape \(4,\).*neither a parameter .* nor in its context"):
        y1.sum().backward()


class Dropping(Tanh):
    def forward(self, t, y):
        return F.dropout(super().forward(t, y), 0.5, training=True)


RANDOM = {
    "layers": (Leapfrog(), lambda: Layered([Dropping() for _ in range(4)]), False),
    "shared": (Stormer(), lambda: ODETerm(Dropping()), False),
    "halves": (Verlet(), lambda: Partitioned(Dropping(), Layered([Dropping() for _ in range(4)])), True),
    "stages": (ReversiblePair(RK4()), lambda: ODETerm(Dropping()), False),
}


@pytest.mark.parametrize("case", RANDOM)
def test_random_numbers_are_those_of_the_way_forth(case, double):
    solver, make, paired = RANDOM[case]
    term, y, found = make(), torch.randn(3, 4, requires_grad=True), []
    y0 = (y, (y * 2).detach().requires_grad_()) if paired else y
    for gradient in (Direct(), Reversible()):
        torch.manual_seed(0)
        grads, _ = gradients(term, y0, range(5), every_output, solver=solver, gradient=gradient)
        found.append((*grads, torch.rand(1)))
    assert close(*found) < SAME
    assert torch.equal(found[0][-1], found[1][-1])  # the way back leaves the generator where it was
    others, _ = gradients(term, y0, range(5), every_output, solver=solver, gradient=Reversible())
    assert close(found[0][:-1], others) > 0.01


def test_a_parameter_changed_in_place_is_refused(double):
    term = layered(3)
    y1 = solve(term, torch.randn(3, 4, requires_grad=True), range(4), solver=Leapfrog(), gradient=Reversible()).y1
    with torch.no_grad():
        next(term.parameters()).add_(1.0)
    with pytest.raises(InputError, match="changed in place"):
        y1.sum().backward()


def test_unused_and_frozen_parameters_are_left_alone(double):
    term = layered(3)
    term.spare = nn.Linear(2, 2)
    frozen = next(term.parameters()).requires_grad_(False)
    solve(term, torch.randn(3, 4), range(4), solver=Leapfrog(), gradient=Reversible()).y1.sum().backward()
    assert frozen.grad is None and term.spare.weight.grad is None
    assert term.layers[1].field.linear.weight.grad.abs().sum() > 0


def test_it_is_once_differentiable(double):
    y0 = torch.randn(3, 4, requires_grad=True)
    y1 = solve(layered(3), y0, range(4), solver=Leapfrog(), gradient=Reversible()).y1
    with pytest.raises(InputError, match="first derivatives alone"):
        torch.autograd.grad(y1.sum(), y0, create_graph=True)


def test_autocasting_is_restored():
    term, x = Layered([Antisymmetric(4) for _ in range(3)]), torch.randn(2, 4, 6, 6)
    found = []
    for gradient in (Direct(), Reversible()):
        with torch.autocast("cpu", torch.bfloat16):
            loss = solve(term, x, range(4), solver=Leapfrog(), gradient=gradient).y1.float().square().mean()
        found.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, tuple(term.parameters()))]))
    assert torch.nn.functional.cosine_similarity(*found, dim=0) > 0.999


@pytest.mark.parametrize("solver", [Euler(), Dopri5()], ids=repr)
def test_a_solver_that_cannot_be_undone_is_refused_with_those_that_can(solver):
    with pytest.raises(InputError, match=r"no unstep; use one of .*Leapfrog.* Stormer, SymplecticEuler, Verlet"):
        solve(layered(2), torch.ones(1, 4), [0, 1, 2], solver=solver, gradient=Reversible())


def test_measured_steps_are_refused():
    with pytest.raises(InputError, match=r"Leapfrog, which has no error estimate|fixed grid"):
        solve(
            ODETerm(Tanh()),
            torch.ones(1, 4),
            [0, 1],
            solver=Leapfrog(),
            controller=PID(1e-3, 1e-3),
            gradient=Reversible(),
        )
