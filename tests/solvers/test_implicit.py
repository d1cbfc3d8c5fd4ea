"""Implicit Runge–Kutta and BDF methods: stability functions, invariants, gradients, and each sample by itself."""

import math

import pytest
import torch
from torch import nn

from deqlight import Layered, ODETerm, Partitioned, SaveAt, solve
from deqlight.controllers import PID, Constant
from deqlight.errors import InputError, NoConvergence
from deqlight.interpolation import horner
from deqlight.solvers import (
    BDF2,
    GaussLegendre4,
    GaussLegendre6,
    ImplicitEuler,
    ImplicitMidpoint,
    Kvaerno3,
    Kvaerno5,
    RadauIIA5,
    Theta,
    Trapezoid,
)
from deqlight.solvers.collocation import Nodes

ROUNDED = 1e-12
"""What some hundred operations leave of a number of size one."""

DIFFERENCED = 1e-9
"""Fourth-order differences over 3e-4 of smooth functions of size one: truncated at 1e-13, rounded at 1e-12."""

KRYLOV = 1e-9
"""Stages solved with products alone stop at the same tolerance, on another way."""

ALL = [ImplicitEuler, ImplicitMidpoint, Trapezoid, GaussLegendre4, GaussLegendre6, RadauIIA5, Kvaerno3, Kvaerno5, BDF2]
ONE_STEP = ALL[:-1]
MEASURED = [RadauIIA5, Kvaerno3, Kvaerno5]

pytestmark = pytest.mark.usefixtures("double")


def once(solver, term, y0, t0=0.0, t1=1.0):
    return solver.step(term, t0, t1, y0, solver.init(term, t0, t1, y0))


def growth(cls, z):
    """R(z) for complex z: a step of y' = zy, as a rotation and scaling of the plane."""
    turn = torch.stack([torch.stack([z.real, -z.imag], -1), torch.stack([z.imag, z.real], -1)], -2)
    y0 = torch.tensor([[1.0, 0.0]]).repeat(len(z), 1)
    term = LinearRows(turn)
    return torch.view_as_complex(once(cls(), term, y0).y)


class LinearRows(ODETerm):
    """dy/dt = A y with a matrix for each sample."""

    def __init__(self, matrices, hook=None):
        super().__init__(lambda t, y: torch.einsum("bij,bj->bi", matrices, y))
        self.matrices, self.hook = matrices, hook

    def rows(self, index):
        return LinearRows(self.matrices[index], self.hook)

    def wrap(self, hook):
        return LinearRows(self.matrices, hook)


PADE = {
    ImplicitEuler: ([1.0], [1.0, -1.0]),
    ImplicitMidpoint: ([1.0, 1 / 2], [1.0, -1 / 2]),
    Trapezoid: ([1.0, 1 / 2], [1.0, -1 / 2]),
    GaussLegendre4: ([1.0, 1 / 2, 1 / 12], [1.0, -1 / 2, 1 / 12]),
    GaussLegendre6: ([1.0, 1 / 2, 1 / 10, 1 / 120], [1.0, -1 / 2, 1 / 10, -1 / 120]),
    RadauIIA5: ([1.0, 2 / 5, 1 / 20], [1.0, -3 / 5, 3 / 20, -1 / 60]),
}


def points():
    return torch.complex(torch.randn(40) - 2, 2 * torch.randn(40))


@pytest.mark.parametrize("cls", PADE)
def test_stability_functions_are_pade_quotients(cls):
    z, (upper, lower) = points(), PADE[cls]
    exact = sum(c * z**k for k, c in enumerate(upper)) / sum(c * z**k for k, c in enumerate(lower))
    assert torch.allclose(growth(cls, z), exact, rtol=ROUNDED, atol=ROUNDED)


@pytest.mark.parametrize("cls", ONE_STEP)
def test_a_stable_on_the_imaginary_axis_and_left_of_it(cls):
    z = torch.complex(torch.zeros(60), torch.logspace(-2, 4, 60))
    sizes = growth(cls, torch.cat([z, z - 0.1, 1j * z])).abs()
    assert float(sizes.max()) <= 1 + ROUNDED
    # symmetric methods lose nothing of an oscillation
    assert (float((sizes[:60] - 1).abs().max()) < 1e-9) == (cls in {*PADE} - {ImplicitEuler, RadauIIA5})


@pytest.mark.parametrize("cls", [ImplicitEuler, RadauIIA5, Kvaerno3, Kvaerno5])
def test_l_stable_methods_forget_fast_components_at_once(cls):
    sizes = growth(cls, torch.tensor([-1e4 + 0j, -1e6 + 0j])).abs()
    assert float(sizes[1]) < 1e-4 and float(sizes[0] / sizes[1]) > 50


def test_bdf2_is_its_formula():
    rate, h = -3.0, 0.25
    ys = solve(ODETerm(lambda t, y: rate * y), torch.ones(1), [i * h for i in range(5)], solver=BDF2()).ys[:, 0]
    exact = [1.0, 1 / (1 - h * rate)]
    for _ in range(3):
        exact.append((4 / 3 * exact[-1] - 1 / 3 * exact[-2]) / (1 - 2 / 3 * h * rate))
    assert torch.allclose(ys, torch.tensor(exact), rtol=ROUNDED)


def test_nodes_give_the_tables_of_gauss():
    s = math.sqrt(3) / 6
    nodes = Nodes((0.5 - s, 0.5 + s))
    assert nodes.b == pytest.approx((0.5, 0.5), rel=1e-14)
    assert nodes.a[0] == pytest.approx((1 / 4, 1 / 4 - s), rel=1e-14)
    assert nodes.a[1] == pytest.approx((1 / 4 + s, 1 / 4), rel=1e-14)


@pytest.mark.parametrize("cls", [Trapezoid, Kvaerno3, Kvaerno5])
def test_rows_sum_to_their_nodes_and_stages_have_order_two(cls):
    tableau = cls.tableau
    a, c = torch.tensor(tableau.matrix), torch.tensor(tableau.c)
    assert torch.allclose(a.sum(1), c, rtol=0, atol=1e-14) and torch.allclose(a @ c, c**2 / 2, rtol=0, atol=1e-14)
    dense = torch.tensor(tableau.dense)
    assert torch.allclose(dense.sum(0), a[-1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("cls", [ImplicitMidpoint, GaussLegendre4, GaussLegendre6])
def test_gauss_methods_keep_quadratic_invariants(cls):
    """The free rigid body: energy and momentum are quadratic."""
    moments = torch.tensor([1.0, 2.0, 3.0])
    term = ODETerm(lambda t, y: torch.linalg.cross(y, y / moments))
    ys = solve(term, torch.tensor([[0.8, 0.6, 0.1]]), [0.0, 20.0], solver=cls(), controller=Constant(steps=40)).ys
    for form in (torch.ones(3), 1 / moments):
        kept = (form * ys**2).sum(-1).flatten()
        assert abs(float(kept[1] - kept[0])) < ROUNDED


@pytest.mark.parametrize("cls", [ImplicitMidpoint, GaussLegendre4])
def test_partitioned_terms_count_both_halves(cls):
    term = Partitioned(lambda t, p: p, lambda t, q: -torch.sin(q))
    solution = solve(term, (torch.rand(3, 2), torch.rand(3, 2)), [0.0, 0.5], solver=cls())
    nfe = solution.stats.nfe
    assert bool((nfe % (2 * len(cls.nodes.c)) == 0).all())


class Field(nn.Module):
    """A nonlinear field with parameters and time, used at every stage."""

    def __init__(self):
        super().__init__()
        self.weight, self.bias = nn.Parameter(0.6 * torch.randn(3, 3)), nn.Parameter(torch.randn(3))

    def forward(self, t, y):
        return torch.tanh(y @ self.weight + self.bias) * (1.5 + torch.cos(torch.as_tensor(t))) - y


class Pair(nn.Module):
    """The same with a second leaf of another shape."""

    def __init__(self):
        super().__init__()
        self.first = Field()

    def forward(self, t, y):
        a, b = y
        return self.first(t, a) + b.mean((1, 2))[:, None], -b + a[:, :2, None].sin()


def directional_gap(solver, field, y0, ts):
    """The gradient along a random direction in all inputs at once, against differences."""
    params = list(field.parameters())
    inputs = [*(y0 if isinstance(y0, tuple) else (y0,)), ts, *params]
    starts = [x.detach().clone() for x in inputs]
    ways = [torch.randn_like(x) for x in starts]
    ways[len(inputs) - len(params) - 1] = torch.tensor([-0.5, 0.5, 1.5])  # steps stay equal

    def loss(shift, grad=False):
        moved = [(x + shift * way).requires_grad_(grad) for x, way in zip(starts, ways, strict=True)]
        *state, times = moved[: len(inputs) - len(params)]
        state = tuple(state) if isinstance(y0, tuple) else state[0]
        with torch.no_grad():
            for p, value in zip(params, moved[-len(params) :], strict=True):
                p.copy_(value)
        times = times if grad else times.tolist()
        y1 = solve(ODETerm(field), state, times, solver=solver).y1
        parts = [leaf.flatten() for leaf in (y1 if isinstance(y1, tuple) else (y1,))]
        flat = torch.cat(parts)
        return (flat * torch.linspace(0.5, 1.5, len(flat))).sin().sum(), [*moved[: -len(params)], *params]

    value, at = loss(0.0, grad=True)
    grads = torch.autograd.grad(value, at)
    exact = sum(float((g * way).sum()) for g, way in zip(grads, ways, strict=True))
    h = 3e-4
    with torch.no_grad():
        f = {k: float(loss(k * h)[0]) for k in (-2, -1, 1, 2)}
    return abs((8 * (f[1] - f[-1]) - (f[2] - f[-2])) / (12 * h) - exact) / (1 + abs(exact))


@pytest.mark.parametrize("dense", [64, 0], ids=["dense", "Krylov"])
@pytest.mark.parametrize("cls", ALL)
def test_gradients_of_states_parameters_and_times(cls, dense):
    ts = torch.tensor([0.0, 0.5, 1.0])
    assert directional_gap(cls(dense=dense), Field(), torch.randn(4, 3), ts) < DIFFERENCED


@pytest.mark.parametrize("dense", [64, 0], ids=["dense", "Krylov"])
@pytest.mark.parametrize("cls", [ImplicitEuler, RadauIIA5, Kvaerno3])
def test_gradients_of_tuple_states(cls, dense):
    y0 = torch.randn(4, 3), torch.randn(4, 2, 2)
    assert directional_gap(cls(dense=dense), Pair(), y0, torch.tensor([0.0, 0.5, 1.0])) < DIFFERENCED


def test_the_gradient_of_a_step_is_the_implicit_functions():
    """y₁ = y₀ + h w y₁³ at y₁ = y: dy₁/dw = h y³/(1 − 3 h w y²), dy₁/dy₀ = 1/(1 − 3 h w y²)."""
    w, y0 = torch.tensor(-2.0, requires_grad=True), torch.tensor([[1.0], [2.0]], requires_grad=True)
    y1 = solve(ODETerm(lambda t, y: w * y**3), y0, [0.0, 0.5], solver=ImplicitEuler()).y1
    dw, dy0 = torch.autograd.grad(y1.sum(), (w, y0))
    y, slope = y1.detach(), 1 + 3 * y1.detach() ** 2
    assert torch.allclose(dw, (0.5 * y**3 / slope).sum(), rtol=ROUNDED)
    assert torch.allclose(dy0, 1 / slope, rtol=ROUNDED)


def test_second_derivatives_are_refused():
    y0 = torch.ones(1, 2, requires_grad=True)
    y1 = solve(ODETerm(lambda t, y: -(y**3)), y0, [0.0, 0.5], solver=ImplicitEuler()).y1
    with pytest.raises(InputError, match="first derivatives alone"):
        torch.autograd.grad(y1.sum(), y0, create_graph=True)


@pytest.mark.parametrize("cls", MEASURED)
def test_gradients_through_measured_steps(cls):
    """Per sample, with rejections: a stiff and an easy row; d/dp of y = p-dependent decay, exactly."""
    p = torch.tensor([[1.0], [300.0]], requires_grad=True)

    class Rows(ODETerm):
        def __init__(self, rate, hook=None):
            super().__init__(lambda t, y: -rate * (y - torch.cos(torch.as_tensor(t))))
            self.rate, self.hook = rate, hook

        def rows(self, index):
            return Rows(self.rate[index], self.hook)

        def wrap(self, hook):
            return Rows(self.rate, hook)

    def end(rate):
        pid = PID(1e-7, 1e-7)
        return solve(Rows(rate), torch.ones(2, 1), [0.0, 2.0], solver=cls(), controller=pid).y1

    (grad,) = torch.autograd.grad(end(p).sum(), p)

    def exact(a):  # the solution that forgets its start, and what is left of the start
        a, t = a.double(), 2.0
        steady = a * (a * math.cos(t) + math.sin(t)) / (1 + a**2)
        return steady + (1 - a**2 / (1 + a**2)) * torch.exp(-a * t)

    q = p.detach().clone().requires_grad_()
    (truth,) = torch.autograd.grad(exact(q).sum(), q)
    assert torch.allclose(end(p.detach()), exact(p.detach()), rtol=1e-6)
    assert torch.allclose(grad, truth, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("cls", ALL)
def test_products_alone_give_the_same_solution(cls):
    y0 = torch.randn(5, 3)
    term = ODETerm(Field())
    with torch.no_grad():
        factorised, alone = (solve(term, y0, [0.0, 0.5, 1.0], solver=cls(dense=d)).y1 for d in (64, 0))
    assert torch.allclose(factorised, alone, rtol=KRYLOV, atol=KRYLOV)


@pytest.mark.parametrize("dense", [64, 0], ids=["dense", "Krylov"])
@pytest.mark.parametrize("cls", [ImplicitEuler, GaussLegendre4, RadauIIA5, Kvaerno5])
def test_a_sample_does_not_depend_on_its_batch_and_costs_its_own_evaluations(cls, dense):
    strength = torch.logspace(-2, 3, 8)
    called = []

    class Pull(ODETerm):
        def __init__(self, k, hook=None):
            super().__init__(lambda t, y: -k[:, None] * (y**3 + y - y.roll(1, 1)))
            self.k, self.hook = k, hook

        def vf(self, t, y):
            called.append(len(y))
            return super().vf(t, y)

        def rows(self, index):
            return Pull(self.k[index], self.hook)

        def wrap(self, hook):
            return Pull(self.k, hook)

    y0, solver = torch.rand(8, 3), cls(dense=dense)
    with torch.no_grad():
        together = solve(Pull(strength), y0, [0.0, 0.5, 1.0], solver=solver)
        assert sum(called) == int(together.stats.nfe.sum()) < 8 * int(together.stats.nfe.max())
        for i in range(8):
            alone = solve(Pull(strength[i : i + 1]), y0[i : i + 1], [0.0, 0.5, 1.0], solver=solver)
            assert torch.allclose(together.y1[i], alone.y1[0], rtol=ROUNDED, atol=0)
            assert together.stats.nfe[i] == alone.stats.nfe[0]


@pytest.mark.parametrize("cls", MEASURED)
def test_between_the_ends_of_stiff_steps(cls):
    """Where hλ is 1e6, slopes at the ends of a step are worth nothing: they magnify what the iteration left."""
    term = ODETerm(lambda t, y: -1e7 * (y - torch.cos(torch.as_tensor(t))) * (1 + y**2))
    pid, y0, ts = PID(1e-4, 1e-4, dtmax=0.1), torch.ones(2, 1), [0.0, 3.0]
    solution = solve(term, y0, ts, solver=cls(), controller=pid, saveat=SaveAt(dense=True))
    times = torch.linspace(0.01, 2.99, 101)
    found = torch.stack([solution.at(float(t)) for t in times])
    assert float((found[:, 0, 0] - torch.cos(times)).abs().max()) < 5e-5  # Hermite's cubic: 1e-4 to 1e-2


def test_the_collocation_polynomial_satisfies_the_equation_at_its_nodes():
    term, y0, solver = ODETerm(Field()), torch.randn(2, 3), GaussLegendre6()
    with torch.no_grad():
        step = once(solver, term, y0, 0.5, 0.9)
        coefficients = solver.dense(term, 0.5, 0.9, y0, step)
        for c in solver.nodes.c:
            slope = horner([k * x for k, x in enumerate(coefficients) if k], c)
            field = 0.4 * term.vf(0.5 + 0.4 * c, horner(coefficients, c))
            assert torch.allclose(slope, field, rtol=1e-10, atol=1e-12)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1))

    def forward(self, t, y):
        return self.net(y)


@pytest.mark.parametrize("cls", ALL)
def test_residual_networks_of_rectifiers_at_unit_steps(cls):
    """Piecewise linear blocks, 256 numbers a sample, float32: the stages are found, and the gradient."""
    torch.set_default_dtype(torch.float32)  # the fixture sets it back
    term, y0 = Layered([Block() for _ in range(3)]), torch.randn(4, 4, 8, 8)
    solution = solve(term, y0, [0.0, 1.0, 2.0, 3.0], solver=cls())
    solution.y1.square().mean().backward()
    assert solution.y1.dtype == torch.float32 and solution.y1.shape == y0.shape
    assert all(bool(p.grad.isfinite().all()) for p in term.parameters())
    if cls is ImplicitEuler:
        y = y0
        for n in range(3):
            new = solve(term, y, [float(n), n + 1.0], solver=cls()).y1.detach()
            assert torch.allclose(new, y + term.over(float(n), n + 1.0).vf(n + 1.0, new), atol=1e-4)
            y = new


@pytest.mark.parametrize("cls", [ImplicitEuler, RadauIIA5, Kvaerno3])
def test_under_inference_mode(cls):
    y0 = torch.rand(3, 2)
    with torch.inference_mode():
        found = solve(ODETerm(lambda t, y: -(y**2) * (2 + torch.cos(torch.as_tensor(t)))), y0, [0.0, 0.5], solver=cls())
        if cls in MEASURED:
            solve(ODETerm(lambda t, y: -y * t), y0, [0.0, 1.0], solver=cls(), controller=PID(1e-4, 1e-4))
    with torch.no_grad():
        again = solve(ODETerm(lambda t, y: -(y**2) * (2 + torch.cos(torch.as_tensor(t)))), y0, [0.0, 0.5], solver=cls())
    assert torch.equal(found.y1, again.y1)


def test_an_equation_without_a_solution_is_an_error_that_names_the_sample():
    """y₁ = y₀ + h y₁² has no root for h y₀ > 1/4."""
    term, y0 = ODETerm(lambda t, y: y**2), torch.tensor([[0.1], [0.3], [0.2]])
    with pytest.raises(NoConvergence) as caught:
        solve(term, y0, [0.0, 1.0], solver=ImplicitEuler())
    assert caught.value.samples == (1,)


@pytest.mark.parametrize("cls", MEASURED)
def test_measured_steps_shrink_where_the_iteration_fails(cls):
    """y' = y² from 0.3 blows up at 10/3; long first steps have stages without a solution."""
    pid = PID(1e-6, 1e-6, first_step=3.2)
    y1 = solve(ODETerm(lambda t, y: y**2), torch.tensor([[0.3]]), [0.0, 3.2], solver=cls(), controller=pid).y1
    assert float(y1) == pytest.approx(1 / (1 / 0.3 - 3.2), rel=5e-3)  # the blow-up magnifies errors by 625


@pytest.mark.parametrize("dense", [64, 0], ids=["dense", "Krylov"])
@pytest.mark.parametrize("cls", [Kvaerno3, Kvaerno5, RadauIIA5])
def test_samples_that_fail_leave_the_others_alone(cls, dense):
    """y' = y²: for 40 no stage has a solution, NaN is none; the others are as alone, in value and in cost."""
    y0 = torch.tensor([[0.2], [40.0], [0.1], [math.nan]], requires_grad=True)
    term, solver = ODETerm(lambda t, y: y**2), cls(dense=dense)
    step = once(solver, term, y0)
    assert step.inner.converged.tolist() == [True, False, True, False]
    (grad,) = torch.autograd.grad(step.y[[0, 2]].sum(), y0)
    for sample in (0, 2):
        start = y0.detach()[sample : sample + 1].requires_grad_()
        alone = once(solver, term, start)
        assert torch.allclose(alone.y[0], step.y[sample], rtol=ROUNDED)
        assert alone.inner.nfe[0] == step.inner.nfe[sample]
        assert torch.allclose(torch.autograd.grad(alone.y.sum(), start)[0][0], grad[sample], rtol=1e-10)


def test_tolerances_make_a_copy():
    solver = RadauIIA5()
    loose = solver.within(1e-3, 1e-3)
    assert type(loose) is RadauIIA5 and solver.newton.rtol is None and loose.newton.rtol == 1e-3


@pytest.mark.parametrize("cls", ALL)
def test_senseless_sizes_are_refused(cls):
    with pytest.raises(InputError, match="dense=-1"):
        cls(dense=-1)
    assert repr(cls()) == cls.__name__


@pytest.mark.parametrize(("theta", "other"), [(1.0, ImplicitEuler()), (0.5, Trapezoid())])
def test_the_theta_method_is_known_at_its_ends(double, theta, other):
    field, y = nn.Sequential(nn.Linear(3, 3), nn.Tanh()), torch.randn(2, 3)
    term = ODETerm(lambda t, u: field(u) * torch.cos(torch.as_tensor(t)))
    one, two = (solve(term, y, [0.0, 1.0], solver=solver).y1 for solver in (Theta(theta), other))
    assert torch.allclose(one, two, rtol=1e-10)


@pytest.mark.parametrize("theta", [0.0, -0.5, 1.1, float("nan")])
def test_other_thetas_are_refused(theta):
    with pytest.raises(InputError, match="at 0 it is Euler"):
        Theta(theta)
