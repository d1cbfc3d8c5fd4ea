"""Reversible methods for any field: their formulas, their inverses, and the gradients that need no memory."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from deqlight import Layered, ODETerm, Partitioned, SaveAt, solve
from deqlight.controllers import PID, Constant
from deqlight.errors import InputError
from deqlight.fields import PreActivation
from deqlight.gradients import Direct, Reversible
from deqlight.nets import ConvStem, DepthNet, LayeredStage, PoolHead
from deqlight.solvers import (
    AB2,
    ETD1,
    ETDRK4,
    RK4,
    AsynchronousLeapfrog,
    Dopri5,
    Euler,
    Heun,
    ImplicitMidpoint,
    Inner,
    Leapfrog,
    Midpoint,
    ReversibleHeun,
    ReversiblePair,
    Rodas4,
    Solver,
    SolverInfo,
    Step,
    Stormer,
    Verlet,
)
from deqlight.terms import DiagonalFlow, Semilinear
from deqlight.testing.order import observed_order

EXACT = 1e-13  # relative, of two ways to compute one thing in float64
SAME = 1e-10  # relative, of two exact gradients in float64, one of them at states that were undone


class Tanh(nn.Module):
    """A field that depends on time, different in each layer."""

    def __init__(self, width=4):
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, t, y):
        return 0.3 * torch.tanh(self.linear(y)) * (1 + 0.1 * t)


def layered(n=6):
    return Layered([Tanh() for _ in range(n)])


def done_and_undone(solver, term, y0, times):
    y, carry, steps = y0, solver.init(term, times[0], times[-1], y0), list(pairwise(times))
    with torch.no_grad():
        for t0, t1 in steps:
            y, carry = solver.step(term.over(t0, t1), t0, t1, y, carry)[:2]
        end = y
        for t0, t1 in reversed(steps):
            y, carry = solver.unstep(term.over(t0, t1), t0, t1, y, carry)[:2]
    return end, y


# What the methods compute


def test_reversible_heun_is_the_published_recursion(double):
    field, y0, h = Tanh(), torch.randn(3, 4), 0.25
    y, hat = y0, y0
    for n in range(4):
        f0 = field(n * h, hat)
        hat = 2 * y - hat + h * f0
        y = y + h / 2 * (f0 + field((n + 1) * h, hat))
    got = solve(ODETerm(field), y0, [0.0, 1.0], controller=Constant(steps=4), solver=ReversibleHeun())
    assert torch.allclose(got.y1, y, rtol=EXACT) and int(got.stats.nfe[0]) == 5


def test_reversible_heun_evaluates_each_layer_with_its_own_field(double):
    term, y0 = layered(), torch.randn(3, 4)
    y, hat = y0, y0
    for n, layer in enumerate(term.layers):
        f0 = layer.field(float(n), hat)
        hat = 2 * y - hat + f0
        y = y + 0.5 * (f0 + layer.field(n + 1.0, hat))
    got = solve(term, y0, range(7), solver=ReversibleHeun())
    assert torch.allclose(got.y1, y, rtol=EXACT) and int(got.stats.nfe[0]) == 12


@pytest.mark.parametrize("make", [layered, lambda: ODETerm(Tanh())], ids=["layers", "shared"])
def test_asynchronous_leapfrog_is_the_published_recursion(make, double):
    term, y0 = make(), torch.randn(3, 4)
    z, v = y0, term.vf(0.0, y0)
    for n in range(6):
        k = z + v / 2
        u = term.over(float(n), n + 1.0).vf(n + 0.5, k)
        v = 2 * u - v
        z = k + v / 2
    got = solve(term, y0, range(7), solver=AsynchronousLeapfrog())
    assert torch.allclose(got.y1, z, rtol=EXACT) and int(got.stats.nfe[0]) == 7


def test_the_pair_is_the_published_recursion(double):
    field, y0, h, coupling = Tanh(), torch.randn(3, 4), 0.5, 0.9

    def increment(t, x, h):  # Heun's
        k = field(t, x)
        return h / 2 * (k + field(t + h, x + h * k))

    y, z = y0, y0
    for t in (0.0, 0.5, 1.0):
        y = coupling * y + (1 - coupling) * z + increment(t, z, h)
        z = z - increment(t + h, y, -h)
    got = solve(
        ODETerm(field), y0, [0.0, 1.5], controller=Constant(steps=3), solver=ReversiblePair(Heun(), coupling=0.9)
    )
    assert torch.allclose(got.y1, y, rtol=EXACT) and int(got.stats.nfe[0]) == 12


def test_a_pair_claims_what_its_method_does():
    info, inner = ReversiblePair(Dopri5()).info, Dopri5().info
    assert (info.order, info.error_order, info.terms) == (5, 5, inner.terms)
    assert (info.nfe_start, info.nfe_step) == (0, 2 * (inner.nfe_start + inner.nfe_step))  # begun anew, twice a step
    assert info.reversible and not info.fsal and info.stability is None
    assert ReversiblePair(RK4(), 0.97).contraction == 0.97 and ReversibleHeun().contraction == 1.0
    assert ReversiblePair(Verlet()).info.terms == (Partitioned,) and not ReversiblePair(Verlet()).info.symplectic


class Begun(Solver):
    """Euler's method with the field at the start of a step as its memory, which it cannot do without."""

    info = SolverInfo(order=1, nfe_start=1, nfe_step=1, fsal=True, continuous_field=True)

    def init(self, term, t0, t1, y0):
        return term.vf(t0, y0)

    def step(self, term, t0, t1, y0, carry):
        y1 = term.advance(y0, [1.0], [carry], term.control(t0, t1))
        return Step(y1, term.vf(t1, y1))


def test_each_increment_of_a_pair_begins_anew(double):
    term, y0, ts = ODETerm(Tanh()), torch.randn(3, 4), [0.0, 0.5, 1.0]
    got, plain = (solve(term, y0, ts, solver=ReversiblePair(solver)) for solver in (Begun(), Euler()))
    assert torch.equal(got.y1, plain.y1) and int(got.stats.nfe[0]) == 2 * ReversiblePair(Begun()).info.nfe_step == 8


@pytest.mark.parametrize("solver", [Euler(), Dopri5()], ids=repr)
def test_odd_orders_are_kept_where_both_solutions_are_coupled(solver):
    """Near a coupling of 1 they look better than they are, until n(1 − λ) is large."""
    assert observed_order(ReversiblePair(solver, coupling=0.5)) == pytest.approx(solver.info.order, abs=0.15)


@pytest.mark.parametrize("coupling", [0.9, 0.99])
def test_a_pair_decays_for_steps_below_one_less_the_coupling(coupling, double):
    def growth(h):
        options = {"solver": ReversiblePair(RK4(), coupling), "max_steps": 10_000}
        ys = solve(ODETerm(lambda t, y: -y), torch.ones(1, 1), torch.arange(4001) * h, **options).ys.abs()
        return float(ys[-1] / ys[2000])

    assert growth(0.9 * (1 - coupling)) < 0.2
    assert growth(1.5 * (1 - coupling)) > 1e3


# The inverse


PAIRS = [ReversiblePair(RK4()), ReversiblePair(Midpoint(), 0.99), ReversiblePair(Euler(), 1.0)]


@pytest.mark.parametrize("times", [list(range(51)), list(range(50, -1, -1))], ids=["forward", "reversed time"])
@pytest.mark.parametrize("solver", [ReversibleHeun(), AsynchronousLeapfrog(), *PAIRS], ids=repr)
def test_fifty_layers_are_undone(solver, times, double):
    end, start = done_and_undone(solver, layered(50), y0 := torch.randn(3, 4), [float(t) for t in times])
    assert not torch.allclose(end, y0, rtol=0.1)
    assert torch.allclose(start, y0, rtol=0, atol=1e-11)


@pytest.mark.parametrize("solver", [ReversibleHeun(), AsynchronousLeapfrog(), *PAIRS], ids=repr)
def test_a_continuous_field_is_undone_on_an_uneven_grid(solver, double):
    times = [0.0, 0.3, 0.4, 0.9, 1.7, 2.0]
    _, start = done_and_undone(solver, ODETerm(Tanh()), y0 := torch.randn(3, 4), times)
    assert torch.allclose(start, y0, rtol=0, atol=1e-12)


def test_the_inverse_of_a_pair_loses_what_its_coupling_says(double):
    """λ⁻ⁿ, neither much more nor much less: 0.8⁻⁶⁰ is 6.5e5."""
    term, y0, times = layered(60), torch.randn(3, 4), [float(t) for t in range(61)]
    _, start = done_and_undone(ReversiblePair(Heun(), 0.8), term, y0, times)
    lost = float((start - y0).abs().max()) / 2.2e-16
    assert 1e4 < lost < 1e9


# The gradient


class Damped(nn.Module):
    """A field of a pair of tensors of different shapes and dtypes."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5))

    def forward(self, t, y):
        a, b = y
        return -self.scale * a * b.sum(1, keepdim=True).to(a.dtype), torch.sin(b) * self.scale.to(b.dtype)


def semilinear():
    flows = Layered([DiagonalFlow(nn.Parameter(-torch.rand(4))) for _ in range(6)])
    return Semilinear(flows, layered())


CASES = {
    "heun, layers": (ReversibleHeun(), layered),
    "heun, shared": (ReversibleHeun(), lambda: ODETerm(Tanh())),
    "leapfrog, layers": (AsynchronousLeapfrog(), layered),
    "leapfrog, shared": (AsynchronousLeapfrog(), lambda: ODETerm(Tanh())),
    "pair of RK4, layers": (ReversiblePair(RK4()), layered),
    "pair of RK4, shared": (ReversiblePair(RK4()), lambda: ODETerm(Tanh())),
    "pair of Dopri5": (ReversiblePair(Dopri5(), 0.99), layered),
    "pair of Verlet": (ReversiblePair(Verlet()), lambda: Partitioned(layered(), layered())),
    "pair of ETD1": (ReversiblePair(ETD1()), semilinear),
    "pair of ETDRK4": (ReversiblePair(ETDRK4()), semilinear),
    "heun, two tensors": (ReversibleHeun(), lambda: ODETerm(Damped())),
    "pair, two tensors": (ReversiblePair(Heun()), lambda: ODETerm(Damped())),
}


def every_output(ys):
    parts = ys if isinstance(ys, tuple) else (ys,)
    return sum((part * torch.arange(1, part.numel() + 1).reshape(part.shape)).square().sum() for part in parts)


def gradients(term, y0, gradient, solver, ts, saveat=None):
    solution = solve(term, y0, ts, solver=solver, gradient=gradient, saveat=saveat)
    tensors = [*(y0 if isinstance(y0, tuple) else (y0,)), *term.parameters(), *solver.tensors()]
    return torch.autograd.grad(every_output(solution.ys), tensors, allow_unused=True, materialize_grads=True)


def gap(a, b):
    return max(float((g - h).abs().max()) for g, h in zip(a, b, strict=True)) / max(float(g.abs().max()) for g in a)


def start_for(term):
    y = torch.randn(3, 4, requires_grad=True)
    if isinstance(term, Partitioned):
        return y, torch.randn(3, 4, requires_grad=True)
    if isinstance(term, ODETerm) and isinstance(term.field, Damped):
        return y, torch.randn(3, 2, requires_grad=True)
    return y


@pytest.mark.parametrize("ts", [list(range(7)), list(range(6, -1, -1))], ids=["forward", "reversed time"])
@pytest.mark.parametrize("case", CASES)
def test_equals_direct_with_a_loss_on_every_output(case, ts, double):
    solver, make = CASES[case]
    term = make()
    y0 = start_for(term)
    direct, undone = (gradients(term, y0, method, solver, ts) for method in (Direct(), Reversible()))
    assert gap(direct, undone) < SAME


@pytest.mark.parametrize("solver", [ReversibleHeun(), AsynchronousLeapfrog(), ReversiblePair(RK4())], ids=repr)
def test_equals_direct_on_an_uneven_grid_for_the_last_output(solver, double):
    term, y0, ts = ODETerm(Tanh()), torch.randn(3, 4, requires_grad=True), [0.0, 0.3, 0.4, 1.2, 2.0]
    direct, undone = (
        gradients(term, y0, method, solver, ts, SaveAt(final=True)) for method in (Direct(), Reversible())
    )
    assert gap(direct, undone) < SAME


class Learnt(Solver, nn.Module):
    """y₁ = y₀ + θ h f, with θ learnt: a one-step method with a coefficient."""

    info = SolverInfo(order=1, nfe_step=1)

    def __init__(self):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(0.9))

    def step(self, term, t0, t1, y0, carry):
        return Step(term.advance(y0, [self.theta], [term.vf(t0, y0)], term.control(t0, t1)))

    def tensors(self):
        return (self.theta,)


class RosenbrockEuler(Solver):
    """y₁ = y₀ + (1 − hJ)⁻¹ h f: linearises the field, and evaluates it at the same point, or not."""

    info = SolverInfo(order=1, nfe_step=2)

    def __init__(self, twice=True):
        self.twice = twice

    def step(self, term, t0, t1, y0, carry):
        f = term.vf(t0, y0) if self.twice else None
        with torch.enable_grad():
            y = y0 if y0.requires_grad else y0.detach().requires_grad_()
            value = term.vf(t0, y)
            rows = [torch.autograd.grad(value[:, i].sum(), y, create_graph=True)[0] for i in range(y.shape[1])]
        jacobian = torch.stack(rows, 1)
        jacobian, value = (x if torch.is_grad_enabled() else x.detach() for x in (jacobian, value))
        h, f = t1 - t0, f if self.twice else value
        return Step(y0 + torch.linalg.solve(torch.eye(y0.shape[1]) - h * jacobian, h * f[..., None])[..., 0])


class FixedPoint(Solver):
    """z ← y₀ + h f(t₁, z) until it rests: as many evaluations as that takes, one more for the gradient."""

    info = SolverInfo(order=1, nfe_step=None)

    def step(self, term, t0, t1, y0, carry):
        h, z, count = t1 - t0, y0.detach(), 0
        with torch.no_grad():
            change = 1.0
            while change > 1e-13 and count < 100:
                last, z, count = z, y0 + h * term.vf(t1, z), count + 1
                change = float((z - last).abs().max())
        if torch.is_grad_enabled():  # a few more, so that the gradient has contracted as well
            for _ in range(40):
                z, count = y0 + h * term.vf(t1, z), count + 1
        batch = len(y0)
        return Step(z, inner=Inner(torch.full((batch,), count), torch.ones(batch, dtype=torch.bool)))


INNER = {
    "learns": Learnt(),
    "linearises": RosenbrockEuler(),
    "linearises alone": RosenbrockEuler(twice=False),
    "iterates": FixedPoint(),
    "Newton": ImplicitMidpoint(),
    "Rosenbrock": Rodas4(),
}


@pytest.mark.parametrize("solver", INNER.values(), ids=INNER)
def test_equals_direct_around_methods_that_learn_linearise_or_iterate(solver, double):
    pair, term, y0 = ReversiblePair(solver), layered(), torch.randn(3, 4, requires_grad=True)
    direct, undone = (gradients(term, y0, method, pair, range(7)) for method in (Direct(), Reversible()))
    assert gap(direct, undone) < SAME
    assert all(bool(g.abs().max() > 0) for g in undone)


class Unsure(Euler):
    """Euler's method that does not say how often it evaluates."""

    info = SolverInfo(order=1, nfe_step=None)


def test_evaluations_serve_both_directions_unless_their_number_may_differ(double):
    term, y0, costs = layered(), torch.randn(3, 4, requires_grad=True), []
    for solver in (ReversiblePair(Euler()), ReversiblePair(Unsure()), ReversiblePair(Heun())):
        solution = solve(term, y0, range(7), solver=solver, gradient=Reversible())
        solution.y1.sum().backward()
        costs.append(solution.stats.nfe_backward // 6)
    assert costs == [2, 4, 8]  # Heun's two increments evaluate the field twice at both ends: that is ambiguous


def test_what_the_iterations_of_both_parts_cost_is_told(double):
    term, y0 = ODETerm(lambda t, y: -0.1 * y), torch.ones(2, 1)
    pair, solver = ReversiblePair(FixedPoint()), FixedPoint()
    with torch.no_grad():
        step = pair.step(term, 0.0, 1.0, y0, pair.init(term, 0.0, 1.0, y0))
        parts = [solver.step(term, 0.0, 1.0, y0, None), solver.step(term, 1.0, 0.0, step.y, None)]
    assert torch.equal(step.inner.nfe, parts[0].inner.nfe + parts[1].inner.nfe)
    assert pair.info.nfe_step is None


def test_an_undeclared_tensor_is_refused_where_the_field_is_linearised(double):
    hidden, y0 = torch.randn(4, requires_grad=True), torch.randn(3, 4, requires_grad=True)
    solver = ReversiblePair(RosenbrockEuler(twice=False))
    y1 = solve(ODETerm(lambda t, y: hidden * y), y0, range(4), solver=solver, gradient=Reversible()).y1
    with pytest.raises(InputError, match=r"tensor of shape \(4,\).*neither a parameter .* nor in its context"):
        y1.sum().backward()


def test_a_field_that_is_a_declared_tensor_or_its_own_argument(double):
    """Neither has a graph of its own within the field; that of the tensor goes on outside the solve."""
    scale, y0 = torch.randn(4, requires_grad=True), torch.randn(3, 4, requires_grad=True)
    context = (2 * scale).expand(3, 4)
    for field in (lambda t, y: context, lambda t, y: y):
        for solver in (ReversibleHeun(), ReversiblePair(ImplicitMidpoint())):
            found = []
            for gradient in (Direct(), Reversible()):
                y1 = solve(ODETerm(field, context=[context]), y0, range(4), solver=solver, gradient=gradient).y1
                loss = y1.square().sum() + 0 * scale.sum()
                found.append(torch.autograd.grad(loss, (y0, scale), retain_graph=True))
            assert gap(*found) < SAME


def bytes_saved(solver, layers, gradient):
    term, held = Layered([Tanh(8) for _ in range(layers)]), []
    x = torch.randn(16, 8, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: held.append(t.nbytes) or t, lambda t: t):
        solve(term, x, range(layers + 1), solver=solver, gradient=gradient, saveat=SaveAt(final=True))
    return sum(held)


@pytest.mark.parametrize("solver", [ReversibleHeun(), AsynchronousLeapfrog(), ReversiblePair(RK4())], ids=repr)
def test_bytes_saved_are_flat_in_depth(solver):
    assert bytes_saved(solver, 8, Reversible()) == bytes_saved(solver, 64, Reversible())
    assert bytes_saved(solver, 32, Direct()) > 3 * bytes_saved(solver, 8, Direct())


@pytest.mark.parametrize("gradient", [Direct(), Reversible()], ids=repr)
@pytest.mark.parametrize("solver", [ReversibleHeun(), AsynchronousLeapfrog(), ReversiblePair(Learnt())], ids=repr)
def test_networks_learn_all_their_parameters(solver, gradient):
    def quiet(channels):
        return PreActivation(channels, lambda n: nn.GroupNorm(2, n))

    net = DepthNet(
        ConvStem(1, 8), [LayeredStage(quiet, 8, 3)], PoolHead(8, 10, nn.Identity), solver=solver, gradient=gradient
    )
    net(torch.rand(4, 1, 8, 8)).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in net.parameters())
    learnt = [name for name, _ in net.named_parameters() if name.startswith("coefficients")]
    assert learnt == (["coefficients.0.solver.theta"] if isinstance(solver, ReversiblePair) else [])
    assert net.solvers[0] is not solver and not {id(p) for p in net.parameters()} & {id(p) for p in solver.tensors()}


# Measured steps


@pytest.mark.parametrize("solver", [ReversibleHeun(), ReversiblePair(Dopri5())], ids=repr)
def test_measured_steps_keep_the_tolerance_and_the_samples_apart(solver, double):
    term = ODETerm(lambda t, y: torch.stack([y[:, 1], -y[:, 0] * (1 + 0.5 * torch.sin(t[:, 0]))], 1))
    y0 = torch.tensor([[1.0, 0.0], [0.3, 2.0], [-1.0, 0.5]])
    options = {"solver": solver, "controller": PID(1e-6, 1e-6), "max_steps": 100_000}
    together = solve(term, y0, [0.0, 2.0], **options)
    reference = solve(term, y0, [0.0, 2.0], solver=Dopri5(), controller=PID(1e-11, 1e-11)).y1
    assert torch.allclose(together.y1, reference, rtol=0, atol=1e-4)
    for i in range(3):
        assert torch.allclose(together.y1[i], solve(term, y0[i : i + 1], [0.0, 2.0], **options).y1[0], rtol=1e-12)


# Refusals


@pytest.mark.parametrize("coupling", [0.0, 1.5, -0.1, float("nan")])
def test_couplings_outside_the_unit_interval_are_refused(coupling):
    with pytest.raises(InputError, match="must lie above 0 and be at most 1"):
        ReversiblePair(RK4(), coupling)


@pytest.mark.parametrize("solver", [AB2(), Leapfrog(), ReversibleHeun(), ReversiblePair(RK4())], ids=repr)
def test_methods_with_a_memory_are_refused(solver):
    with pytest.raises(InputError, match=r"remembers earlier steps; it needs a one-step method"):
        ReversiblePair(solver)


def test_what_is_no_method_for_first_order_equations_is_refused():
    with pytest.raises(InputError, match="is for second-order equations"):
        ReversiblePair(Stormer())
    with pytest.raises(InputError, match=r"needs an instance of a solver, such as ReversiblePair\(RK4\(\)\)"):
        ReversiblePair(RK4)


def test_a_solve_that_would_be_undone_into_rounding_is_refused_with_numbers(double):
    term, y0 = ODETerm(Tanh()), torch.randn(3, 4, requires_grad=True)
    pair, ts = ReversiblePair(RK4(), coupling=0.9), [0.0, 1.0, 2.0]
    message = r"0\.9\) over 100 steps.*0\.9 each, to 2\.7e-05.*0\.001 or more: take 65 steps at most, a factor of 0\.93"
    with pytest.raises(InputError, match=message + r"3\d at least, or the gradient Direct"):
        solve(term, y0, ts, solver=pair, gradient=Reversible(), controller=Constant(steps=50))
    solve(term, y0, ts, solver=pair, gradient=Direct(), controller=Constant(steps=50))
    solve(term, y0, [0.0, 1.0], solver=pair, gradient=Reversible(), controller=Constant(steps=65))
    with pytest.raises(InputError, match="over 66 steps"):
        solve(term, y0, [0.0, 1.0], solver=pair, gradient=Reversible(), controller=Constant(steps=66))
    better = ReversiblePair(RK4(), coupling=0.9333)
    solve(term, y0, ts, solver=better, gradient=Reversible(), controller=Constant(steps=50))
