"""Step doubling: an error estimate for any one-step method."""

import math

import pytest
import torch
from torch import nn

from deqlight import Layered, ODETerm, Partitioned, solve
from deqlight.controllers import PID, Constant
from deqlight.errors import InputError
from deqlight.fields import PreActivation
from deqlight.nets import ConvStem, DepthNet, LayeredStage, PoolHead
from deqlight.solvers import (
    AB2,
    ETDRK4,
    RK4,
    RKC,
    Dopri5,
    Euler,
    Inner,
    Leapfrog,
    Midpoint,
    Solver,
    SolverInfo,
    Step,
    StepDoubling,
    Stormer,
    Verlet,
)
from deqlight.terms import DiagonalFlow, Semilinear

EXACT = 1e-13  # relative, of two ways to compute one thing in float64


def field(t, y):
    return -y * (1 + torch.as_tensor(t).cos())


def exact(t):
    return math.exp(-t - math.sin(t))


def once(solver, h, term=None, y0=None):
    term, y0 = term or ODETerm(field), torch.ones(1, 1) if y0 is None else y0
    return solver.step(term.over(0.0, h), 0.0, h, y0, solver.init(term, 0.0, h, y0))


@pytest.mark.parametrize("inner", [Euler(), Midpoint(), RK4(), Dopri5()], ids=repr)
def test_the_solution_is_that_of_two_halves_and_the_estimate_the_textbook_one(inner, double):
    h, doubled = 0.5, once(StepDoubling(inner), 0.5)
    whole = once(inner, h).y
    halves = solve(ODETerm(field), torch.ones(1, 1), [0.0, h], solver=inner, controller=Constant(steps=2)).y1
    assert torch.allclose(doubled.y, halves, rtol=EXACT)
    assert torch.allclose(doubled.error, (halves - whole) / (2**inner.info.order - 1), rtol=1e-8)


@pytest.mark.parametrize("inner", [Euler(), Midpoint(), RK4()], ids=repr)
def test_the_estimate_tends_to_the_error(inner, double):
    h = 0.05
    step = once(StepDoubling(inner), h)
    assert float(step.error) == pytest.approx(exact(h) - float(step.y), rel=0.1)


def test_extrapolation_adds_the_estimate(double):
    plain, better = (once(StepDoubling(Midpoint(), extrapolate), 0.1) for extrapolate in (False, True))
    assert torch.equal(better.y, plain.y + plain.error) and torch.equal(better.error, plain.error)
    assert abs(float(better.y) - exact(0.1)) < 0.2 * abs(float(plain.y) - exact(0.1))


def test_claims_follow_from_the_method():
    info = StepDoubling(Dopri5()).info
    assert (info.order, info.error_order, info.nfe_start, info.nfe_step) == (5, 6, 1, 18)
    assert info.continuous_field and info.fsal and not info.reversible
    assert StepDoubling(Verlet()).info.symplectic and StepDoubling(Verlet()).info.terms == (Partitioned,)
    better = StepDoubling(Verlet(), extrapolate=True).info
    assert better.order == 3 and not better.symplectic and better.stability is None
    assert StepDoubling(RKC(5)).info.stability == 2 * RKC(5).info.stability  # two halves


def test_evaluations_of_first_stages_that_are_known():
    doubled = StepDoubling(Dopri5())
    for term, nfe in ((ODETerm(field), 1 + 3 * 6 * 4), (Layered([field] * 4), 3 * 7 * 4)):
        assert int(solve(term, torch.ones(1, 1), range(5), solver=doubled).stats.nfe[0]) == nfe


@pytest.mark.parametrize("inner", [RK4(), Midpoint(), Dopri5()], ids=repr)
def test_measured_steps_keep_the_tolerance_and_the_samples_apart(inner, double):
    term = ODETerm(lambda t, y: -y * (1 + t.cos()))
    y0, options = torch.tensor([[1.0], [0.2], [-3.0]]), {"solver": StepDoubling(inner), "controller": PID(1e-7, 1e-9)}
    found = solve(term, y0, [0.0, 2.0], **options)
    assert torch.allclose(found.y1, y0 * exact(2.0), rtol=1e-4)
    assert int(found.stats.nfe[0]) > 3 * int(found.stats.accepted[0])
    for i in range(3):
        assert torch.allclose(found.y1[i], solve(term, y0[i : i + 1], [0.0, 2.0], **options).y1[0], rtol=1e-12)


def test_backwards_in_time(double):
    term = ODETerm(lambda t, y: -y * (1 + t.cos()))
    y1 = solve(term, torch.ones(2, 1), [1.0, 0.0], solver=StepDoubling(RK4()), controller=PID(1e-8, 1e-8)).y1
    assert torch.allclose(y1, torch.full_like(y1, 1 / exact(1.0)), rtol=1e-6)


def test_partitioned_and_semilinear_methods(double):
    pendulum = Partitioned(lambda t, p: p, lambda t, q: -torch.sin(q))
    y0, options = (torch.tensor([[0.8]]), torch.tensor([[0.6]])), {"controller": PID(1e-8, 1e-8)}
    q, p = solve(pendulum, y0, [0.0, 3.0], solver=StepDoubling(Verlet()), **options).y1
    assert torch.allclose(p**2 / 2 - torch.cos(q), torch.tensor(0.18 - math.cos(0.8)), atol=1e-6)
    term = Semilinear(DiagonalFlow(torch.tensor([-1e4])), lambda t, y: 1e4 * torch.cos(t) - torch.sin(t))
    y1 = solve(term, torch.ones(1, 1), [0.0, 3.0], solver=StepDoubling(ETDRK4()), **options).y1
    assert torch.allclose(y1, torch.full_like(y1, math.cos(3.0)), atol=1e-6)


def test_states_of_two_tensors(double):
    step = once(
        StepDoubling(RK4()),
        0.1,
        ODETerm(lambda t, y: (-y[0], 0.5 * y[1])),
        (torch.ones(2, 3), torch.ones(2, 4, dtype=torch.float32)),
    )
    assert [tuple(e.shape) for e in step.error] == [(2, 3), (2, 4)] and step.error[1].dtype == torch.float32


# Methods that iterate, and that learn


class Iterating(Solver):
    """Euler's method that says it iterated, and by which tolerance."""

    info = SolverInfo(order=1, nfe_step=None)

    def __init__(self, rtol=None):
        self.rtol = rtol

    def within(self, rtol, atol):
        return Iterating(rtol)

    def step(self, term, t0, t1, y0, carry):
        y1 = term.advance(y0, [1.0], [term.vf(t0, y0)], term.control(t0, t1))
        return Step(y1, inner=Inner(torch.tensor([1, 2]), torch.tensor([True, t0 == 0.0])))


def test_iterations_and_tolerances_pass_through():
    doubled = StepDoubling(Iterating())
    inner = once(doubled, 1.0, y0=torch.ones(2, 1)).inner
    assert inner.nfe.tolist() == [3, 6] and inner.converged.tolist() == [True, False]  # the second half did not
    assert doubled.within(1e-5, 1e-5).solver.rtol == 1e-5 and doubled.info.nfe_step is None
    assert StepDoubling(RK4()).within(1e-5, 1e-5).info == StepDoubling(RK4()).info


class Learnt(Solver, nn.Module):
    """y₁ = y₀ + θₙ h f: a coefficient for each of the steps, whose number is the memory."""

    info = SolverInfo(order=1, nfe_step=1)

    def __init__(self, steps=1):
        super().__init__()
        self.theta = nn.Parameter(torch.linspace(0.8, 0.9, steps))

    def step(self, term, t0, t1, y0, carry):
        n = carry or 0
        return Step(term.advance(y0, [self.theta[n]], [term.vf(t0, y0)], term.control(t0, t1)), n + 1)

    def bind(self, layers, channels):
        return Learnt(layers)

    def tensors(self):
        return (self.theta,)


def test_a_learnt_method_has_coefficients_of_its_own_in_each_half_layer():
    def quiet(channels):
        return PreActivation(channels, lambda n: nn.GroupNorm(2, n))

    stages = [LayeredStage(quiet, 8, 3), LayeredStage(quiet, 8, 2)]
    net = DepthNet(ConvStem(1, 8), stages, PoolHead(8, 10, nn.Identity), solver=StepDoubling(Learnt()))
    found = {name: len(p) for name, p in net.named_parameters() if name.startswith("coefficients")}
    assert found == {"coefficients.0.solver.theta": 6, "coefficients.1.solver.theta": 4}
    net(torch.rand(2, 1, 8, 8)).square().sum().backward()
    assert all(p.grad is not None and bool((p.grad != 0).all()) for n, p in net.named_parameters() if "theta" in n)
    assert net.solvers[0].tensors() == (net.coefficients[0].solver.theta,)


# Refusals


@pytest.mark.parametrize("solver", [AB2(), Leapfrog()], ids=repr)
def test_methods_with_a_memory_are_refused(solver):
    with pytest.raises(InputError, match=rf"got {solver!r}, which remembers earlier steps; .*RK4 or Verlet"):
        StepDoubling(solver)


def test_methods_for_second_order_equations_and_classes_are_refused():
    with pytest.raises(InputError, match="Stormer, which is for second-order equations"):
        StepDoubling(Stormer())
    with pytest.raises(InputError, match=r"such as StepDoubling\(RK4\(\)\)"):
        StepDoubling(RK4)
