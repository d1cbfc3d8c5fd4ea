"""The front door: what goes in, what comes out, and what is refused."""

import math
import time

import numpy as np
import pytest
import torch
from rows import Rows, attracted
from torch import nn

from deqlight import Layered, ODETerm, Partitioned, SaveAt, Solution, record, solve
from deqlight.controllers import PID, Constant
from deqlight.errors import InputError, MaxSteps, NonFinite, ShapeError, SolverFailure, StepUnderflow
from deqlight.solvers import AB2, RK4, Dopri5, Euler, Heun, Leapfrog, SymplecticEuler


def swing(t, y):
    """dy/dt = y cos t, whose solution is y0 exp(sin t); t is a float or a tensor that broadcasts."""
    return y * (math.cos(t) if isinstance(t, float) else torch.cos(t))


def exact(y0, ts):
    return y0 * torch.exp(torch.sin(torch.as_tensor(ts, dtype=y0.dtype))).reshape(-1, 1, 1)


@pytest.fixture
def y0(double):
    return torch.rand(4, 3) + 0.5


def test_a_solution_has_time_first_and_statistics_for_each_sample(y0):
    solution = solve(ODETerm(swing), y0, [0.0, 0.5, 1.0], solver=RK4())
    assert isinstance(solution, Solution)
    assert solution.ys.shape == (3, 4, 3) and solution.ts.tolist() == [0.0, 0.5, 1.0]
    assert torch.equal(solution.ys[0], y0) and torch.equal(solution.ys[-1], solution.y1)
    assert solution.stats.nfe.tolist() == [8] * 4 and solution.stats.accepted.tolist() == [2] * 4
    assert solution.stats.rejected.tolist() == [0] * 4


def test_the_last_state_alone(y0):
    solution = solve(ODETerm(swing), y0, [0.0, 0.5, 1.0], solver=RK4(), saveat=SaveAt(final=True))
    assert solution.ys.shape == (1, 4, 3) and solution.ts.tolist() == [1.0]


def test_time_is_a_float_on_fixed_grids_and_joint_clocks_and_broadcasts_on_samples_own(y0):
    seen = []

    def field(t, y):
        seen.append(t)
        return -y

    solve(ODETerm(field), y0, [0, 1], solver=Heun())
    solve(ODETerm(field), y0, torch.tensor([0.0, 1.0]), solver=Dopri5(), controller=PID(1e-3, 1e-3, norm="joint"))
    assert all(type(t) is float for t in seen)
    seen.clear()
    solve(ODETerm(field), y0.float(), [0, 1], solver=Dopri5(), controller=PID(1e-3, 1e-3))
    assert {(tuple(t.shape), t.dtype) for t in seen[2:]} == {((4, 1), torch.float32)}


@pytest.mark.parametrize("norm", ["sample", "joint"])
@pytest.mark.parametrize("tolerance", [1e-3, 1e-6, 1e-9])
def test_measured_steps_keep_the_tolerance_at_every_output(y0, norm, tolerance):
    ts = torch.linspace(0, 5, 7)
    ys = solve(ODETerm(swing), y0, ts, solver=Dopri5(), controller=PID(tolerance, tolerance, norm=norm)).ys
    assert float((ys - exact(y0, ts)).abs().max()) < 20 * tolerance


@pytest.mark.parametrize("controller", [Constant(steps=200), PID(1e-9, 1e-9), PID(1e-9, 1e-9, norm="joint")], ids=str)
def test_time_runs_back(y0, controller):
    forth = solve(ODETerm(swing), y0, [0.0, 1.5, 3.0], solver=Dopri5(), controller=controller)
    back = solve(ODETerm(swing), forth.y1, [3.0, 1.5, 0.0], solver=Dopri5(), controller=controller)
    assert torch.allclose(back.ys.flip(0), forth.ys, atol=1e-7)


def test_a_sample_does_not_depend_on_its_batch(y0):
    rates = torch.tensor([1.0, 200.0, 3.0, 0.1])
    pid = PID(1e-6, 1e-8)
    together = solve(Rows(rates, attracted), y0, [0.0, 1.0, 2.0], solver=Dopri5(), controller=pid)
    for i in range(4):
        alone = solve(
            Rows(rates[i : i + 1], attracted), y0[i : i + 1], [0.0, 1.0, 2.0], solver=Dopri5(), controller=pid
        )
        assert torch.allclose(together.ys[:, i], alone.ys[:, 0], rtol=1e-12, atol=0)
        assert together.stats.nfe[i] == alone.stats.nfe[0] and together.stats.rejected[i] == alone.stats.rejected[0]


def test_finished_samples_leave_the_field(y0):
    term = Rows(torch.tensor([1.0, 300.0, 1.0, 1.0]), attracted)
    stats = solve(term, y0, [0.0, 2.0], solver=Dopri5(), controller=PID(1e-6, 1e-8)).stats
    assert sum(term.called) == int(stats.nfe.sum()) < 4 * int(stats.nfe.max())


def test_tuple_states_with_leaves_of_several_shapes(y0):
    state = (y0, torch.rand(4, 2, 5))
    for options in ({}, {"controller": PID(1e-8, 1e-8)}, {"controller": PID(1e-8, 1e-8, norm="joint")}):
        term = ODETerm(lambda t, y: (-y[0], -2 * y[1]))
        ys = solve(term, state, [0.0, 0.01, 0.02], solver=Dopri5(), **options).ys
        assert torch.allclose(ys[0][-1], y0 * math.exp(-0.02)) and torch.allclose(ys[1][-1], state[1] * math.exp(-0.04))


def test_layers_are_jump_times_of_a_joint_clock(y0):
    halves = [lambda t, y: -y, lambda t, y: 3 * y]
    pid = PID(1e-9, 1e-9, norm="joint")
    y1 = solve(Layered(halves), y0, [0.0, 2.0], solver=Dopri5(), controller=pid).y1
    assert torch.allclose(y1, y0 * math.exp(2.0), rtol=1e-7)


def test_times_that_need_a_gradient_get_it(double):
    y0, ts = torch.rand(4, 3), torch.tensor([0.0, 1.0], requires_grad=True)
    y1 = solve(ODETerm(lambda t, y: -y), y0, ts, solver=RK4(), controller=Constant(steps=50)).y1
    (grad,) = torch.autograd.grad(y1.sum(), ts)
    slope = float(y0.sum()) * math.exp(-1)
    assert torch.allclose(grad, torch.tensor([slope, -slope]), rtol=1e-6)
    with pytest.raises(InputError, match="measured steps do not give"):
        solve(ODETerm(lambda t, y: -y), y0, ts, solver=Dopri5(), controller=PID(1e-3, 1e-3))


@pytest.mark.parametrize("norm", ["sample", "joint"])
def test_gradients_through_measured_steps_with_rejections(double, norm):
    """Against finite differences; the field is stiff in one row, so that steps are rejected."""
    rates = torch.tensor([1.0, 60.0])
    y0, p = torch.tensor([[1.0], [2.0]]), torch.tensor(1.3, requires_grad=True)

    def end(value):
        field = lambda t, y: -(rates[: len(y), None] if len(y) == 2 else rates[1:, None]) * value * torch.sin(y)  # noqa: E731
        pid = PID(1e-10, 1e-10, norm=norm)
        solution = solve(ODETerm(field), y0, [0.0, 1.0], solver=Dopri5(), controller=pid)
        return solution.y1.sum() + solution.y1[0, 0] * 3, solution.stats

    value, _ = end(p)
    (grad,) = torch.autograd.grad(value, p)
    h = 1e-4
    difference = (end(p.detach() + h)[0] - end(p.detach() - h)[0]) / (2 * h)
    assert torch.allclose(grad, difference, rtol=1e-5)


def test_record_collects_solves_at_any_depth(y0):
    with record() as outer:
        solve(ODETerm(swing), y0, [0, 1], solver=Euler())
        with record() as inner:
            solve(ODETerm(swing), y0, [0, 1], solver=Heun())
    assert [int(s.nfe[0]) for s in outer] == [1, 2] and [int(s.nfe[0]) for s in inner] == [2]


# what is refused ------------------------------------------------------------------------------------------------------

BAD_TIMES = {
    "one": ([0.0], "at least two"),
    "none": ([], "at least two"),
    "repeated": ([0.0, 1.0, 1.0], "1 at index 1 and 1 at index 2"),
    "turning": ([0.0, 1.0, 0.5], "1 at index 1 and 0.5 at index 2"),
    "nan": ([0.0, math.nan], "nan at index 1"),
    "infinite": ([0.0, math.inf], "inf at index 1"),
    "integers": (torch.arange(3), "needs floats"),
    "matrix": (torch.zeros(2, 2), r"shape \(2, 2\)"),
}


@pytest.mark.parametrize("case", BAD_TIMES)
def test_bad_times_are_refused_with_their_place(case):
    ts, message = BAD_TIMES[case]
    with pytest.raises(InputError, match=message):
        solve(ODETerm(swing), torch.ones(1, 1), ts, solver=Euler())


def refused(error, message, term=None, y0=None, ts=(0.0, 1.0), **options):
    options.setdefault("solver", Euler())
    with pytest.raises(error, match=message):
        solve(term or ODETerm(swing), torch.ones(2, 3) if y0 is None else y0, ts, **options)


def test_a_field_in_place_of_a_term():
    refused(InputError, r"needs a Term, such as ODETerm\(field\)", term=nn.Linear(3, 3))


def test_a_class_in_place_of_a_solver():
    refused(InputError, r"needs a Solver, such as Heun\(\)", solver=Heun)


def test_a_wrong_controller():
    refused(InputError, "needs Constant", controller=0.1)


@pytest.mark.parametrize("y0", [torch.ones(2, dtype=torch.long), [1.0], (torch.ones(2), torch.ones(3))], ids=str)
def test_bad_states(y0):
    refused(ShapeError, "needs a|axis 0", y0=y0)


@pytest.mark.parametrize("field", [lambda t, y: y[:, :1], lambda t, y: (y, y), lambda t, y: y.sum()], ids="abc")
def test_a_field_of_another_shape_is_refused_and_both_shapes_are_shown(field):
    refused(ShapeError, r"returned \[.*its argument was \[\(2, 3\) float32 on cpu\]", term=ODETerm(field))


@pytest.mark.parametrize(
    ("other", "shown"), [(torch.float64, "float64 on cpu"), ("meta", "float32 on meta")], ids=["dtype", "device"]
)
def test_a_field_of_another_dtype_or_device_is_refused(other, shown):
    refused(ShapeError, rf"'<lambda>' returned .*{shown}.* float32 on cpu", term=ODETerm(lambda t, y: y.to(other)))


@pytest.mark.parametrize(
    "ts", [(0.0, 1.0), (1.0, 0.0), torch.tensor([[0.0, 0.0], [1.0, 0.5]])], ids=["on", "back", "own"]
)
def test_a_step_longer_than_the_solve(ts):
    refused(
        InputError, r"dt=1\.5 for a solve of length 1; take a shorter dt, or steps=1", ts=ts, controller=Constant(1.5)
    )


def test_a_step_longer_than_an_interval_is_none():
    y1 = solve(ODETerm(swing), torch.ones(2, 3), [0.0, 0.1, 2.0], solver=Euler(), controller=Constant(dt=0.5)).stats
    assert y1.accepted.tolist() == [5, 5]


def test_a_solver_for_pairs_on_one_tensor():
    refused(InputError, "SymplecticEuler got the term ODETerm; it integrates Partitioned", solver=SymplecticEuler())


def test_measured_steps_without_an_estimate_name_the_remedies():
    refused(
        InputError, r"no error estimate.*Dopri5, Heun.*Constant\(steps=…\)", solver=AB2(), controller=PID(1e-3, 1e-3)
    )


def test_clocks_of_samples_need_a_field_that_keeps_them_apart():
    norm = nn.BatchNorm1d(3)
    term = ODETerm(lambda t, y: norm(y))
    term.norm = norm
    refused(InputError, "BatchNorm in training mode", term=term, solver=Dopri5(), controller=PID(1e-3, 1e-3))
    refused(InputError, 'norm="joint"', term=Layered([swing]), solver=Dopri5(), controller=PID(1e-3, 1e-3))
    refused(InputError, "without a batch axis", y0=torch.tensor(1.0), solver=Dopri5(), controller=PID(1e-3, 1e-3))


def test_unequal_steps_where_equal_ones_are_needed():
    refused(InputError, r"needs steps of one length; these times give 0.5 to 1\b", ts=[0, 0.5, 1.5], solver=Leapfrog())


def test_a_step_across_layers():
    refused(InputError, r"from 0 to 2 does not lie inside one layer", term=Layered([swing, swing]), ts=[0, 2])
    refused(InputError, r"lives on \[0, 2\]", term=Layered([swing, swing]), ts=[0, 1, 2, 3])


BAD_CONTROLLERS = [
    (lambda: Constant(), "exactly|one of both"),
    (lambda: Constant(dt=0.1, steps=2), "one of both"),
    (lambda: Constant(dt=-0.1), "must be positive"),
    (lambda: Constant(dt=math.nan), "must be positive"),
    (lambda: Constant(steps=0), "at least 1"),
    (lambda: PID(-1e-3, 1e-3), "not negative"),
    (lambda: PID(math.nan, 1e-3), "finite"),
    (lambda: PID(0.0, 0.0), "at least one"),
    (lambda: PID(1e-3, 1e-3, norm="all"), "accepted: 'sample', 'joint'"),
    (lambda: PID(1e-3, 1e-3, factor_max=0.5), "factor_max"),
    (lambda: PID(1e-3, 1e-3, first_step=0.0), "first_step"),
]


@pytest.mark.parametrize(("make", "message"), BAD_CONTROLLERS)
def test_bad_controllers(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_a_tolerance_below_the_dtype_is_raised_with_a_warning():
    with pytest.warns(UserWarning, match="below what torch.float32 resolves"):
        solve(ODETerm(swing), torch.ones(2, 3), [0.0, 0.1], solver=Dopri5(), controller=PID(1e-9, 1e-9))


# what fails -----------------------------------------------------------------------------------------------------------


def nan_after(time_, samples):
    def field(t, y):
        return torch.where((y < 0) & (torch.as_tensor(t) > time_), math.nan, -y)

    y0 = torch.ones(6, 3)
    y0[samples] = -1.0
    return ODETerm(field), y0


@pytest.mark.parametrize("requires_grad", [False, True])
def test_nan_on_a_fixed_grid_names_time_step_and_samples(requires_grad):
    term, y0 = nan_after(1.1, [1, 4])
    with pytest.raises(NonFinite) as caught:
        solve(term, y0.requires_grad_(requires_grad), torch.linspace(0, 2, 21), solver=Euler())
    error = caught.value
    assert (error.step, error.samples, error.kind) == (12, (1, 4), "NonFinite")
    assert error.t == pytest.approx(1.2) and error.dt == pytest.approx(0.1) and error.nfe == 13
    assert "samples = [1, 4]" in str(error) and isinstance(error, SolverFailure)


@pytest.mark.parametrize("norm", ["sample", "joint"])
@pytest.mark.parametrize("requires_grad", [False, True])
def test_nan_under_measured_steps_ends_soon(norm, requires_grad):
    (term, y0), pid = nan_after(1.1, [1, 4]), PID(1e-4, 1e-4, norm=norm)
    started = time.perf_counter()
    with pytest.raises(NonFinite) as caught:
        solve(term, y0.requires_grad_(requires_grad), [0.0, 2.0], solver=Dopri5(), controller=pid)
    assert time.perf_counter() - started < 2
    assert caught.value.t == pytest.approx(1.1, abs=0.01)
    assert caught.value.samples == (1, 4)


@pytest.mark.parametrize("controller", [None, PID(1e-3, 1e-3), PID(1e-3, 1e-3, norm="joint")], ids=str)
def test_a_field_that_is_nan_everywhere(controller):
    with pytest.raises(NonFinite):
        solve(ODETerm(lambda t, y: y * math.nan), torch.ones(2, 3), [0.0, 1.0], solver=Dopri5(), controller=controller)


def test_a_pole_underflows_or_overflows_near_it(double):
    with pytest.raises((StepUnderflow, NonFinite)) as caught:
        solve(ODETerm(lambda t, y: y * y), torch.ones(1, 1), [0.0, 2.0], solver=Dopri5(), controller=PID(1e-6, 1e-6))
    assert caught.value.t == pytest.approx(1.0, abs=1e-3)


def test_too_many_steps():
    with pytest.raises(MaxSteps, match=r"the grid has 100000 steps\. Raise max_steps \(now 4096\) to at least 100000"):
        solve(ODETerm(swing), torch.ones(2, 3), [0.0, 1.0], solver=Euler(), controller=Constant(dt=1e-5))
    stiff = Rows(torch.tensor([1.0, 1e6]), attracted)
    with pytest.raises(MaxSteps, match="stiff") as caught:
        solve(stiff, torch.ones(2, 1), [0.0, 1.0], solver=Dopri5(), controller=PID(1e-3, 1e-3), max_steps=100)
    assert caught.value.samples == (1,)


def test_large_numbers_are_finite():
    """Their sum overflows, they do not."""
    y0 = torch.full((4, 3), 3e38)
    assert torch.equal(solve(ODETerm(lambda t, y: 0 * y), y0, [0.0, 1.0], solver=Euler()).y1, y0)


def test_errors_of_the_field_pass_through():
    def field(t, y):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        solve(ODETerm(field), torch.ones(1, 1), [0, 1], solver=Euler())


def test_a_state_without_axes():
    joint = PID(2e-6, 1e-6, norm="joint")
    for options in ({"solver": Dopri5(), "controller": joint}, {"solver": RK4(), "controller": Constant(steps=20)}):
        ys = solve(ODETerm(lambda t, y: -y), torch.tensor(1.0), [0.0, 1.0, 2.0], **options).ys
        assert torch.allclose(ys, torch.exp(-torch.arange(3.0)), atol=1e-5)


def test_one_number_a_sample_and_a_tolerance_for_each():
    y0, atol = torch.ones(3), torch.tensor([1e-6, 1e-6, 1e-6])
    y1 = solve(ODETerm(lambda t, y: -y), y0, [0, 1], solver=Dopri5(), controller=PID(0.0, atol, norm="joint")).y1
    assert torch.allclose(y1, torch.full((3,), math.exp(-1)), atol=1e-5)


def test_an_empty_batch_is_a_batch():
    assert solve(ODETerm(swing), torch.ones(0, 3), [0, 1], solver=Heun()).y1.shape == (0, 3)
    assert solve(ODETerm(swing), torch.ones(0, 3), [0, 1], solver=Dopri5(), controller=PID(1e-3, 1e-3)).y1.shape == (
        0,
        3,
    )


def test_constant_steps_fit_the_intervals():
    times, marks = Constant(dt=0.1).grid((0.0, 0.25, 1.0))
    assert marks == [0, 3, 11] and times[3] == 0.25 and times[-1] == 1.0
    assert max(np.diff(times)) <= 0.1
    times, marks = Constant(steps=2).grid((0.0, 1.0, 3.0))
    assert times == [0.0, 0.5, 1.0, 2.0, 3.0] and marks == [0, 2, 4]


def test_the_same_field_may_be_partitioned(y0):
    q, p = solve(Partitioned(lambda t, p: p, lambda t, q: -q), (y0, y0), [0.0, 1.0], solver=RK4()).y1
    assert torch.allclose(q, y0 * (math.cos(1) + math.sin(1)), rtol=1e-1) and p.shape == y0.shape
