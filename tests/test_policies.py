"""What becomes of samples that fail, and of the others."""

import math
import subprocess
import sys
import time

import pytest
import torch
from rows import Rows, attracted

from deqlight import ODETerm, SaveAt, solve
from deqlight.controllers import PID, Constant
from deqlight.errors import InputError, MaxSteps, NonFinite, SolverFailure, StepUnderflow
from deqlight.gradients import Reversible
from deqlight.policies import Fallback, Freeze, Raise
from deqlight.solvers import RK4, Dopri5, Euler, Leapfrog

SOON = 2.0
"""Seconds within which a hopeless solve has to end."""


def breaking(bad, t, y):
    """dy/dt = −y, NaN behind t = 0.5 in the samples whose rate is 1."""
    return torch.where((bad > 0) & (torch.as_tensor(t) > 0.5), math.nan, -y)


@pytest.fixture
def bad(double):
    flags = torch.zeros(6)
    flags[[1, 4]] = 1.0
    return flags


WAYS = {
    "fixed": {"solver": RK4(), "controller": Constant(steps=20)},
    "sample": {"solver": Dopri5(), "controller": PID(1e-6, 1e-6)},
    "joint": {"solver": Dopri5(), "controller": PID(1e-6, 1e-6, norm="joint")},
}


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_freeze(bad, way, dense):
    y0, good = torch.rand(6, 2) + 0.5, bad == 0
    options = {**WAYS[way], "saveat": SaveAt(dense=dense)}
    clean = solve(Rows(torch.zeros(4), breaking), y0[good], [0.0, 0.25, 1.0], **options)
    mixed = solve(Rows(bad, breaking), y0, [0.0, 0.25, 1.0], on_failure=Freeze(), **options)
    assert torch.allclose(mixed.ys[:, good], clean.ys, rtol=1e-12)
    assert bool(mixed.y1[~good].isnan().all())
    assert {f.kind for f in mixed.failures} == {"NonFinite"}
    assert sorted(i for f in mixed.failures for i in f.samples) == [1, 4]
    assert mixed.failures[0].t == pytest.approx(0.5, abs=0.06)
    if dense:
        value = mixed.at(0.9)
        assert bool(value[~good].isnan().all()) and torch.allclose(value[good], clean.at(0.9), rtol=1e-12)


@pytest.mark.parametrize("way", WAYS)
def test_raise_is_the_default(bad, way):
    with pytest.raises(NonFinite) as caught:
        solve(Rows(bad, breaking), torch.ones(6, 2), [0.0, 1.0], **WAYS[way])
    assert caught.value.samples == (1, 4) and "Look at the field" in caught.value.hint
    with pytest.raises(NonFinite):
        solve(Rows(bad, breaking), torch.ones(6, 2), [0.0, 1.0], on_failure=Raise(), **WAYS[way])


def test_ragged_times_freeze_too(bad):
    ts = [[0.0, 0.3, 1.0], [0.0, 0.4, 1.0, 2.0], [0.0, 1.0], [0.0, 1.0], [0.0, 0.1], [0.0, 0.2]]
    for options in (
        {"solver": Dopri5(), "controller": PID(1e-6, 1e-6)},
        {"solver": RK4(), "controller": Constant(dt=0.02)},
    ):
        solution = solve(Rows(bad, breaking), torch.ones(6, 2), ts, on_failure=Freeze(), **options)
        last = torch.tensor([math.exp(-1), math.nan, math.exp(-1), math.exp(-1), math.exp(-0.1), math.exp(-0.2)])
        assert torch.allclose(solution.y1[:, 0], last, rtol=1e-5, equal_nan=True)
        assert [f.samples for f in solution.failures] == [(1,)]
        assert float(solution.ys[4, 0]) == pytest.approx(math.exp(-0.4), rel=1e-5)  # reached before it failed


def test_fallback_solves_what_failed_by_another_solver(bad):
    """Dopri5 with few steps fails on the stiff rows; the fallback is given more."""
    rates, y0 = torch.where(bad > 0, 3000.0, 1.0), torch.rand(6, 2)
    options = {"solver": Dopri5(), "controller": PID(1e-6, 1e-6), "max_steps": 60}
    with pytest.raises(MaxSteps, match="stiff") as caught:
        solve(Rows(rates, attracted), y0, [0.0, 0.5], **options)
    assert caught.value.samples == (1, 4)
    rescue = Fallback(RK4(), Constant(dt=5e-4))
    solution = solve(Rows(rates, attracted), y0, [0.0, 0.5], on_failure=rescue, **{**options, "max_steps": 1000})
    plain = solve(Rows(rates, attracted), y0, [0.0, 0.5], solver=Dopri5(), controller=PID(1e-6, 1e-6))
    assert not solution.failures and torch.allclose(solution.y1, plain.y1, atol=1e-5)


def test_too_many_steps_of_one_sample_leave_the_others_whole(bad):
    """No memory that was never written, and nothing returned in silence."""
    rates, y0, ts = torch.where(bad > 0, 1e5, 1.0), torch.rand(6, 2), [0.0, 0.01, 0.5]
    options = {"solver": Dopri5(), "controller": PID(1e-6, 1e-6), "max_steps": 200}
    clean = solve(Rows(torch.ones(4), attracted), y0[bad == 0], ts, **options)
    mixed = solve(Rows(rates, attracted), y0, ts, on_failure=Freeze(), **options)
    assert torch.allclose(mixed.ys[:, bad == 0], clean.ys, rtol=1e-12)
    assert {f.kind for f in mixed.failures} == {"MaxSteps"} and bool(mixed.y1[bad > 0].isnan().all())
    assert mixed.stats.accepted[1] + mixed.stats.rejected[1] == 200


def test_long_solves_do_not_recurse(double):
    term, steps = ODETerm(lambda t, y: -y * math.cos(t)), 20_000
    y1 = solve(term, torch.ones(1, 1), [0, 200], solver=RK4(), controller=Constant(steps=steps), max_steps=steps).y1
    assert float(y1) == pytest.approx(math.exp(-math.sin(200.0)), rel=1e-6)


def test_fallback_with_the_first_solvers_controller_and_policy(bad):
    y0 = torch.ones(6, 2)
    kept = Fallback(RK4(), then=Freeze())
    solution = solve(
        Rows(bad, breaking), y0, [0.0, 1.0], solver=Euler(), controller=Constant(steps=20), on_failure=kept
    )
    assert [f.samples for f in solution.failures] == [(1, 4)] and bool(solution.y1[[1, 4]].isnan().all())
    with pytest.raises(NonFinite) as caught:
        solve(
            Rows(bad, breaking),
            y0,
            [0.0, 1.0],
            solver=Euler(),
            controller=Constant(steps=20),
            on_failure=Fallback(RK4()),
        )
    assert caught.value.kind == "NonFinite"


def test_a_fallback_that_does_not_fit_is_refused_before_anything_is_solved():
    called = []
    term = ODETerm(lambda t, y: called.append(t) or -y)
    with pytest.raises(InputError, match="RK4, which has no error estimate"):
        solve(term, torch.ones(2, 1), [0, 1], solver=Dopri5(), controller=PID(1e-3, 1e-3), on_failure=Fallback(RK4()))
    assert not called


def test_gradients_of_the_others_are_finite(bad):
    rate = torch.tensor(1.0, requires_grad=True)

    def field(flags, t, y):
        return rate * breaking(flags, t, y)

    for options in WAYS.values():
        for t0 in (0.0, 0.6):  # in the second the field is NaN from the start
            y1 = solve(Rows(bad, field), torch.ones(6, 1), [t0, t0 + 1.0], on_failure=Freeze(), **options).y1
            (grad,) = torch.autograd.grad(y1[bad == 0].sum(), rate)
            assert float(grad) == pytest.approx(-4 * math.exp(-1), rel=1e-4)


def test_infinity_does_not_reach_the_gradient_of_others(double):
    """The step is thrown away because it overflowed; so must be what its gradient would be."""
    rate = torch.tensor(1.0, requires_grad=True)

    def field(steep, t, y):
        return rate * torch.where(steep > 0, torch.exp(torch.exp(1e3 * (y - 1.0))), -y)

    steep = torch.tensor([0.0, 1.0])
    pid = PID(1e-6, 1e-6, first_step=0.5)
    y1 = solve(
        Rows(steep, field), torch.ones(2, 1), [0.0, 1.0], solver=Dopri5(), controller=pid, on_failure=Freeze()
    ).y1
    (grad,) = torch.autograd.grad(y1[0].sum(), rate)
    assert float(grad) == pytest.approx(-math.exp(-1), rel=1e-4)


def test_reversible_gradients_of_the_others(bad):
    y0 = torch.ones(6, 1, requires_grad=True)
    options = {"solver": Leapfrog(), "controller": Constant(steps=200), "gradient": Reversible()}
    y1 = solve(Rows(bad, breaking), y0, [0.0, 1.0], on_failure=Freeze(), **options).y1
    (grad,) = torch.autograd.grad(y1[bad == 0].sum(), y0)
    assert torch.allclose(grad[bad == 0], torch.full((4, 1), math.exp(-1)), rtol=1e-3)


def test_a_grid_that_is_too_long_is_no_samples_fault():
    term, grid = ODETerm(lambda t, y: -y), Constant(dt=1e-6)
    with pytest.raises(MaxSteps):
        solve(term, torch.ones(2, 1), [0, 1], solver=Euler(), controller=grid, on_failure=Freeze())


def test_all_samples_may_fail():
    for options in WAYS.values():
        solution = solve(
            ODETerm(lambda t, y: y * math.nan), torch.ones(3, 2), [0.0, 1.0], on_failure=Freeze(), **options
        )
        assert bool(solution.y1.isnan().all()) and solution.failures[0].samples == (0, 1, 2)


# cases 1 to 5 of what must never hang or lie --------------------------------------------------------------------------


class Diverging(torch.nn.Module):
    def forward(self, t, y):
        return torch.where(torch.as_tensor(t, dtype=y.dtype) > self.when, math.nan, -y)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("when", [-1.0, 1.0])
def test_nan_is_named_with_its_time_and_module(way, when):
    field = Diverging()
    field.when = when
    started = time.perf_counter()
    with pytest.raises(NonFinite) as caught:
        solve(ODETerm(field), torch.ones(2, 1, dtype=torch.float64), [0.0, 2.0], **WAYS[way])
    assert time.perf_counter() - started < SOON
    assert caught.value.t == pytest.approx(max(when, 0.0), abs=0.11)
    assert "the field 'Diverging'" in str(caught.value) and "nan," not in str(caught.value)


def test_a_pole(double):
    for options in WAYS.values():
        started = time.perf_counter()
        with pytest.raises((NonFinite, StepUnderflow, MaxSteps)) as caught:
            solve(ODETerm(lambda t, y: y * y), torch.ones(1, 1), [0.0, 3.0], **options)
        assert time.perf_counter() - started < SOON and 0.9 < caught.value.t < 2.2


def test_an_explicit_solver_on_a_stiff_field_points_at_stiff_solvers(double):
    term, message = (
        Rows(torch.tensor([1e6]), attracted),
        "1000 steps did not reach the end.*Kvaerno5, RadauIIA5, Rodas4",
    )
    with pytest.raises(MaxSteps, match=message) as caught:
        solve(term, torch.ones(1, 1), [0.0, 1.0], solver=Dopri5(), controller=PID(1e-6, 1e-6), max_steps=1000)
    error = caught.value
    assert error.samples == (0,) and error.nfe > 1000 and error.dt > 0 and isinstance(error, SolverFailure)


def test_nothing_rests_on_asserts():
    """The same under `python -O`, and with a time limit of its own."""
    code = """
import torch, math
from deqlight import ODETerm, solve
from deqlight.controllers import PID, Constant
from deqlight.errors import NonFinite
from deqlight.solvers import Dopri5, RK4
for options in ({"controller": PID(1e-3, 1e-3)}, {"controller": PID(1e-3, 1e-3, norm="joint")}, {}):
    try:
        solve(ODETerm(lambda t, y: y * math.nan), torch.ones(2, 1), [0.0, 1.0], solver=Dopri5(), **options)
    except NonFinite as error:
        print(error.kind, error.t)
"""
    done = subprocess.run([sys.executable, "-O", "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["NonFinite", "0.0"] * 3, done.stderr
