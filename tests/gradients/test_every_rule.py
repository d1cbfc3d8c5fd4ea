"""Each exact rule gives the gradient of what the solver computes, for every solver that it accepts.

That is: the gradient of `Direct` for all solvers, and for one-step methods on du/dt = Au that of R(hA)ᴺ u₀, with R the
method's stability function, written down here. Their distance to the gradient of e^{AT} u₀ falls at the solver's order.
"""

import math
import warnings

import pytest
import torch
from rules import EXACT, EXAMPLES, Linear, bent_for, differentiated, gap, kinds_of, same_bits
from torch import nn

from deqlight import Layered, ODETerm, Partitioned, SaveAt, solve
from deqlight.controllers import PID, Constant
from deqlight.errors import InputError
from deqlight.gradients import Backsolve, Checkpoint, Direct, Implicit, Reversible
from deqlight.solvers import RK4, Dopri5, ExplicitRungeKutta, Heun, Leapfrog
from deqlight.terms import MatrixFlow, Semilinear, Split

RULES = {"Checkpoint": Checkpoint(), "Checkpoint(3)": Checkpoint(3), "Reversible": Reversible()}

STEPS = {1: 32, 2: 16, 3: 12, 4: 16, 5: 4, 6: 4, 8: 2}
"""Steps by order, for errors that are neither rounding nor far from their limit."""

SLACK = 0.35
"""How much less than its order a convergence may measure between two grids."""


def accepted(rule, solver, controller):
    try:
        rule.check(solver, controller)
    except InputError:
        return False
    return True


CASES = [
    pytest.param(rule, solver, id=f"{name}-{solver!r}")
    for name, rule in RULES.items()
    for solver in EXAMPLES
    if accepted(rule, solver, Constant(steps=1))
]


@pytest.mark.parametrize(("rule", "solver"), CASES)
def test_equals_direct_on_a_nonlinear_field(rule, solver, double):
    term, y0 = bent_for(solver)
    options = {"solver": solver, "controller": Constant(steps=4)}
    direct, expected = differentiated(term, y0, [0.0, 0.5, 1.0], Direct(), **options)
    solution, found = differentiated(term, y0, [0.0, 0.5, 1.0], rule, **options)
    assert gap(expected, found) < EXACT
    assert solution.stats.nfe_backward > 0 == direct.stats.nfe_backward
    assert same_bits(direct.ys, solution.ys) or rule is RULES["Reversible"]


MEASURED = [s for s in EXAMPLES if s.info.error_order is not None and not s.info.uniform_steps]


@pytest.mark.parametrize("norm", ["joint", "sample"])
@pytest.mark.parametrize("solver", MEASURED, ids=repr)
def test_equals_direct_with_measured_steps(solver, norm, double):
    term, y0 = bent_for(solver)
    options = {"solver": solver, "controller": PID(1e-2, 1e-3, norm=norm)}
    direct, expected = differentiated(term, y0, [0.0, 0.5, 1.0], Direct(), **options)
    solution, found = differentiated(term, y0, [0.0, 0.5, 1.0], Checkpoint(2), **options)
    assert same_bits(direct.ys, solution.ys) and gap(expected, found) < EXACT


def polynomial(tableau):
    """R(z) = Σ c_k zᵏ of an explicit method: c₀ = 1, c_k = bᵀ A^{k−1} 1."""
    stages = len(tableau.b)
    a = torch.tensor([[*row, *[0.0] * (stages - len(row))] for row in tableau.a])
    b, ones, coefficients = torch.tensor(tableau.b), torch.ones(stages), [1.0]
    for _ in range(stages):
        coefficients.append(float(b @ ones))
        ones = a @ ones
    return coefficients, [1.0]


def pade(p, q):
    """The Padé approximation of exp with degrees p above and q below."""
    f = math.factorial
    above = [f(p + q - k) * f(p) / (f(p + q) * f(k) * f(p - k)) for k in range(p + 1)]
    below = [(-1) ** k * f(p + q - k) * f(q) / (f(p + q) * f(k) * f(q - k)) for k in range(q + 1)]
    return above, below


PADE = {
    "AB1": (1, 0),
    "ImplicitEuler": (0, 1),
    "ImplicitMidpoint": (1, 1),
    "Trapezoid": (1, 1),
    "GaussLegendre4": (2, 2),
    "GaussLegendre6": (3, 3),
    "RadauIIA5": (2, 3),
}


def stability_of(solver):
    if isinstance(solver, ExplicitRungeKutta):
        return polynomial(solver.tableau)
    place = PADE.get(repr(solver))
    return None if place is None else pade(*place)


def of_matrix(coefficients, z):
    total = torch.zeros_like(z)
    for c in reversed(coefficients):
        total = total @ z + c * torch.eye(len(z))
    return total


CLOSED = [solver for solver in EXAMPLES if repr(solver) in PADE or isinstance(solver, ExplicitRungeKutta)]


@pytest.mark.parametrize("rule", [Direct(), Checkpoint(), Checkpoint(2)], ids=repr)
@pytest.mark.parametrize("solver", CLOSED, ids=repr)
def test_equals_the_closed_form_of_the_method(solver, rule, double):
    """u₁ = R(hA)ᴺ u₀, differentiated with respect to A and u₀ as a function of matrices."""
    n, h, field = 5, 0.2, Linear(torch.randn(3, 3))
    u0, weight = torch.randn(2, 3, requires_grad=True), torch.randn(2, 3)
    above, below = stability_of(solver)
    z = h * field.matrix
    r = torch.linalg.solve(of_matrix(below, z), of_matrix(above, z))
    closed = (u0 @ torch.linalg.matrix_power(r, n).T * weight).sum()
    expected = torch.autograd.grad(closed, [u0, field.matrix])
    options = {"solver": solver, "controller": Constant(steps=n), "loss": lambda ys: (ys[-1] * weight).sum()}
    _, found = differentiated(ODETerm(field), u0, [0.0, n * h], rule, **options)
    assert gap(expected, found) < EXACT


def linear_for(solver, matrix):
    """du/dt = Au as the solver takes it, its parameters, and A u₀'s own tensors made of them."""
    kinds, n = kinds_of(solver), len(matrix) // 2
    if "Partitioned" in kinds:
        upper, lower = Linear(matrix[:n, n:].clone()), Linear(matrix[n:, :n].clone())
        zero = torch.zeros(n, n)
        rows = lambda: (torch.cat([zero, upper.matrix], 1), torch.cat([lower.matrix, zero], 1))  # noqa: E731
        return Partitioned(upper, lower), lambda: torch.cat(rows())
    if kinds & {"Split", "Semilinear"}:
        stiff, rest = nn.Parameter(0.6 * matrix), Linear(0.4 * matrix)
        linear = MatrixFlow(stiff)
        term = Semilinear(linear, rest) if "Semilinear" in kinds else Split(rest, linear)
        return term, lambda: stiff + rest.matrix
    field = Linear(matrix)
    return ODETerm(field), lambda: field.matrix


FIRST_ORDER = [s for s in EXAMPLES if s.info.derivative == 1]


@pytest.mark.parametrize("solver", FIRST_ORDER, ids=repr)
def test_its_distance_to_the_gradient_of_the_exponential_falls_at_the_order(solver, double):
    matrix = torch.tensor([[0.0, 1.0, 0.3, 0.0], [-1.0, -0.2, 0.0, 0.4], [0.1, 0.0, -0.3, 0.8], [0.0, 0.2, -0.7, 0.1]])
    term, a = linear_for(solver, matrix)
    start, weight = torch.randn(2, 4), torch.randn(2, 4)
    parameters = list(term.parameters())
    exact = (start @ torch.linalg.matrix_exp(a()).T * weight).sum()
    expected = torch.autograd.grad(exact, parameters)
    paired = isinstance(term, Partitioned)
    y0 = (start[:, :2], start[:, 2:]) if paired else start
    errors = []
    for n in (STEPS[solver.info.order], 2 * STEPS[solver.info.order]):
        y1 = solve(term, y0, [0.0, 1.0], solver=solver, controller=Constant(steps=n), gradient=Checkpoint(3)).y1
        y1 = torch.cat(y1, 1) if paired else y1
        errors.append(gap(expected, torch.autograd.grad((y1 * weight).sum(), parameters)))
    assert math.log2(errors[0] / errors[1]) > solver.info.order - SLACK, errors


ALL = {
    "Direct": (Direct(), Heun()),
    "Checkpoint": (Checkpoint(), Heun()),
    "Checkpoint(2)": (Checkpoint(2), Heun()),
    "Backsolve": (Backsolve(), RK4()),
    "Reversible": (Reversible(), Leapfrog()),
}


@pytest.mark.parametrize("name", ALL)
def test_unused_frozen_and_shared_parameters(name, double):
    rule, solver = ALL[name]
    field = nn.Linear(4, 4)
    spare = nn.Linear(2, 2)

    class Field(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.spare = field, field, spare  # the same weights twice
            self.frozen = nn.Parameter(torch.ones(4), requires_grad=False)

        def forward(self, t, y):
            return torch.tanh(self.second(torch.tanh(self.first(y)) * self.frozen))

    term, y0 = ODETerm(Field()), torch.randn(3, 4)
    for gradient in (Direct(), rule):
        term.zero_grad()
        solve(term, y0, [0.0, 1.0], solver=solver, controller=Constant(steps=20), gradient=gradient).y1.sum().backward()
        assert spare.weight.grad is None and term.field.frozen.grad is None and y0.grad is None
        if gradient is not rule or name == "Direct":
            expected = field.weight.grad.clone()
    assert torch.allclose(field.weight.grad, expected, rtol=EXACT if name != "Backsolve" else 1e-4)


@pytest.mark.parametrize("name", ALL)
def test_gradients_accumulate_over_two_backward_passes(name, double):
    rule, solver = ALL[name]
    term, y0 = bent_for(solver)
    options = {"solver": solver, "controller": Constant(steps=6), "gradient": rule}
    y1 = solve(term, y0, [0.0, 1.0], **options).y1
    first = torch.autograd.grad(y1.sum(), [y0, *term.parameters()], retain_graph=True)
    second = torch.autograd.grad(y1.sum(), [y0, *term.parameters()])
    assert gap(first, second) < EXACT
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(y1.sum(), [y0])


@pytest.mark.parametrize("name", ALL)
def test_a_field_that_solves(name, double):
    """The gradient goes through a solve inside the field of another."""
    rule, solver = ALL[name]
    inner = ODETerm(Inside())

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = inner

        def forward(self, t, y):
            return solve(self.inner, y, [0.0, 0.3], solver=solver, controller=Constant(steps=3), gradient=rule).y1 - y

    term, y0 = ODETerm(Outer()), torch.randn(2, 4, requires_grad=True)
    options = {"solver": solver, "controller": Constant(steps=8)}
    _, found = differentiated(term, y0, [0.0, 1.0], rule, **options)
    rule = Direct()
    _, expected = differentiated(term, y0, [0.0, 1.0], Direct(), **options)
    assert gap(expected, found) < (EXACT if name != "Backsolve" else 1e-4)


class Inside(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, t, y):
        return torch.tanh(self.linear(y))


@pytest.mark.parametrize("name", ALL)
def test_no_gradient_is_asked_for(name):
    rule, solver = ALL[name]
    term = ODETerm(lambda t, y: -y)
    y1 = solve(term, torch.ones(2, 3), [0.0, 1.0], solver=solver, controller=Constant(steps=3), gradient=rule).y1
    assert not y1.requires_grad
    with torch.no_grad():
        y0 = torch.ones(2, 3, requires_grad=True)
        assert not solve(term, y0, [0.0, 1.0], solver=solver, gradient=rule).y1.requires_grad


@pytest.mark.parametrize("rule", [Checkpoint(), Backsolve(), Implicit()], ids=repr)
def test_times_that_need_a_gradient_and_dense_output_are_refused(rule):
    y0 = torch.ones(2, 3, requires_grad=True)
    ts = torch.tensor([0.0, 1.0], requires_grad=True)
    with pytest.raises(InputError, match="times that need a gradient; use the gradient Direct"):
        solve(ODETerm(lambda t, y: -y), y0, ts, solver=RK4(), gradient=rule)
    with pytest.raises(InputError, match=r"dense=True.*Direct"):
        solve(ODETerm(lambda t, y: -y), y0, [0.0, 1.0], solver=RK4(), gradient=rule, saveat=SaveAt(dense=True))


@pytest.mark.parametrize("name", ["Checkpoint", "Backsolve", "Reversible"])
def test_an_undeclared_tensor_and_one_changed_in_place_are_refused(name, double):
    rule, solver = ALL[name]
    hidden, y0 = torch.randn(3, requires_grad=True), torch.ones(2, 3, requires_grad=True)
    options = {"solver": solver, "controller": Constant(steps=3), "gradient": rule}
    y1 = solve(ODETerm(lambda t, y: hidden * y), y0, [0.0, 1.0], **options).y1
    with pytest.raises(InputError, match=r"tensor of shape \(3,\).*neither a parameter .* nor in its context"):
        y1.sum().backward()
    term = ODETerm(Linear(torch.eye(3)))
    y1 = solve(term, y0, [0.0, 1.0], **options).y1
    with torch.no_grad():
        term.field.matrix.mul_(2.0)
    with pytest.raises(InputError, match="changed in place"):
        y1.sum().backward()


@pytest.mark.parametrize("name", ["Checkpoint", "Checkpoint(2)", "Backsolve"])
def test_a_declared_context_gets_its_gradient(name, double):
    rule, _ = ALL[name]
    scale = torch.randn(4, requires_grad=True)
    context = scale * 2  # not a leaf: the graph goes on outside the solve
    term, y0, found = ODETerm(lambda t, y: torch.tanh(context * y), context=[context]), torch.randn(3, 4), []
    for gradient in (Direct(), rule):
        y1 = solve(term, y0, [0.0, 1.0], solver=RK4(), controller=Constant(steps=20), gradient=gradient).y1
        found.append(torch.autograd.grad(y1.square().sum(), scale, retain_graph=True))
    assert gap(*found) < (EXACT if name != "Backsolve" else 1e-5)


@pytest.mark.parametrize("name", ["Checkpoint", "Checkpoint(2)", "Backsolve"])
def test_autocasting_is_restored(name):
    rule, _ = ALL[name]
    term, x, found = ODETerm(Inside()), torch.randn(8, 4), []
    for gradient in (Direct(), rule):
        with torch.autocast("cpu", torch.bfloat16):
            y1 = solve(term, x, [0.0, 1.0], solver=RK4(), controller=Constant(steps=4), gradient=gradient).y1
        found.append(
            torch.cat([g.flatten() for g in torch.autograd.grad(y1.square().mean(), tuple(term.parameters()))])
        )
    assert torch.nn.functional.cosine_similarity(*found, dim=0) > 0.999


@pytest.mark.parametrize("name", ["Checkpoint", "Checkpoint(2)", "Backsolve"])
def test_dropout_and_batch_norm_in_a_field(name, double):
    """One mask for the whole solve, on the way back as well; running statistics move once."""
    rule, _ = ALL[name]
    layers = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Dropout(0.5), nn.Linear(4, 4))
    term = ODETerm(lambda t, y: layers(y), context=list(layers.parameters()))
    y0, found, means = torch.randn(6, 4, requires_grad=True), [], []
    for gradient in (Direct(), rule):
        layers[1].reset_running_stats()
        torch.manual_seed(3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            options = {"solver": RK4(), "controller": Constant(steps=40)}
            _, grads = differentiated(term, y0, [0.0, 0.5, 1.0], gradient, more=term.context, **options)
        found.append(grads)
        means.append(layers[1].running_mean.clone())
        assert int(layers[1].num_batches_tracked) == 1
    assert torch.equal(*means)
    assert gap(*found) < (EXACT if name != "Backsolve" else 1e-4)


def test_layers_of_a_network(double):
    """Each layer's parameters get what its own steps give them."""
    blocks = [Inside() for _ in range(6)]
    term, y0 = Layered([*blocks, blocks[0]]), torch.randn(3, 4, requires_grad=True)
    for budget in (None, 1, 3):
        for solver in (Heun(), Dopri5(), Leapfrog()):
            options = {"solver": solver}
            direct, expected = differentiated(term, y0, range(8), Direct(), **options)
            solution, found = differentiated(term, y0, range(8), Checkpoint(budget), **options)
            assert same_bits(direct.ys, solution.ys) and gap(expected, found) < EXACT
