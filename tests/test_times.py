"""Times of each sample's own, jumps of the field, times to step on, the shortest and the longest step."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from rows import Rows, attracted

from deqlight import Layered, ODETerm, Partitioned, SaveAt, solve
from deqlight.controllers import PID, Constant
from deqlight.errors import InputError, ShapeError, StepUnderflow
from deqlight.gradients import Reversible
from deqlight.solvers import AB2, RK4, Dopri5, Euler, Kvaerno3, Leapfrog, RadauIIA5, Verlet

TIGHT = PID(1e-10, 1e-10)
WITHIN = 1e-7
"""What the tolerance of 1e-10 leaves after some hundred steps; for RK4, what fifty steps leave."""


def swing(t, y):
    """dy/dt = y cos t, whose solution is y0 exp(sin t − sin t0)."""
    return y * torch.cos(torch.as_tensor(t, dtype=y.dtype))


def exact(y0, t0, t):
    return y0 * torch.exp(torch.sin(t) - torch.sin(t0))[:, None]


@pytest.fixture
def y0(double):
    return torch.rand(3, 2) + 0.5


TABLE = torch.tensor([[0.0, 1.0, 2.0], [0.5, 0.2, 3.0], [1.5, -1.0, 4.0]], dtype=torch.float64)  # (time, batch)
RAGGED = [[0.0, 0.5, 1.5], [1.0, -1.0], [2.0, 2.25, 2.5, 3.0, 4.0]]
CONTROLLERS = [TIGHT, Constant(steps=50), Constant(dt=0.01)]
FIXED = {PID: Dopri5(), Constant: RK4()}


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("controller", CONTROLLERS, ids=["PID", "steps", "dt"])
def test_a_table_of_times(y0, controller, dense):
    options = {"solver": FIXED[type(controller)], "controller": controller, "saveat": SaveAt(dense=dense)}
    solution = solve(ODETerm(swing), y0, TABLE, **options)
    assert solution.ys.shape == (3, 3, 2) and torch.equal(solution.ts, TABLE) and solution.offsets is None
    for k in range(3):
        assert torch.allclose(solution.ys[k], exact(y0, TABLE[0], TABLE[k]), atol=WITHIN)


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("controller", CONTROLLERS, ids=["PID", "steps", "dt"])
def test_ragged_times(y0, controller, dense):
    options = {"solver": FIXED[type(controller)], "controller": controller, "saveat": SaveAt(dense=dense)}
    solution = solve(ODETerm(swing), y0, RAGGED, **options)
    assert solution.offsets.tolist() == [0, 3, 5, 10]
    assert solution.ts.tolist() == [t for own in RAGGED for t in own] and solution.ys.shape == (10, 2)
    for i, own in enumerate(RAGGED):
        t = torch.tensor(own)
        mine = solution.ys[solution.offsets[i] : solution.offsets[i + 1]]
        wanted = y0[i] * torch.exp(torch.sin(t) - torch.sin(t[0]))[:, None]
        assert torch.allclose(mine, wanted, atol=WITHIN)
        assert torch.equal(solution.y1[i], mine[-1])


def test_ragged_times_waste_nothing(y0):
    """Each sample is called as often as alone, though one has to go forty times as far."""
    ts, rates = [[0.0, 0.5], [0.0, 20.0], [0.0, 1.0]], torch.ones(3)
    term = Rows(rates, attracted)
    solve(term, y0, ts, solver=Dopri5(), controller=PID(1e-6, 1e-6))
    alone = 0
    for i in range(3):
        single = Rows(rates[:1], attracted)
        solve(single, y0[i : i + 1], ts[i], solver=Dopri5(), controller=PID(1e-6, 1e-6))
        alone += sum(single.called)
    assert sum(term.called) == alone


def test_the_last_state_of_ragged_times(y0):
    solution = solve(ODETerm(swing), y0, RAGGED, solver=Dopri5(), controller=TIGHT, saveat=SaveAt(final=True))
    assert solution.ys.shape == (1, 3, 2) and solution.ts.tolist() == [[1.5, -1.0, 4.0]]


def test_gradients_through_times_of_ones_own(y0):
    y0.requires_grad_()
    fixed, measured = {"solver": RK4(), "controller": Constant(steps=50)}, {"solver": Dopri5(), "controller": TIGHT}
    for ts, options in ((TABLE, fixed), (RAGGED, measured)):
        y1 = solve(ODETerm(swing), y0, ts, **options).y1
        start, end = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([1.5, -1.0, 4.0])
        (grad,) = torch.autograd.grad(y1.sum(), y0)
        assert torch.allclose(grad, exact(torch.ones(3, 2), start, end), atol=WITHIN)


def test_a_reversible_solver_on_a_table_of_times(y0):
    term = Partitioned(lambda t, p: p, lambda t, q: -q)
    table = torch.stack([torch.zeros(3), torch.tensor([1.0, -1.0, 2.0])])
    y0.requires_grad_()
    grads = []
    for gradient in ({}, {"gradient": Reversible()}):
        q, _ = solve(term, (y0, y0), table, solver=Verlet(), controller=Constant(steps=20), **gradient).y1
        grads.append(torch.autograd.grad(q.sum(), y0)[0])
    assert torch.allclose(*grads, rtol=1e-12)


REFUSED = {
    "rows": (torch.zeros(3, 4), ShapeError, r"shape \(3, 4\); for a batch of 3 it needs \(time,\) or \(time, 3\)"),
    "lists": ([[0.0, 1.0]], ShapeError, "1 lists of times for a batch of 3"),
    "one": ([[0.0, 1.0], [0.0], [0.0, 1.0]], InputError, "ts of sample 1 got 1 times"),
    "turning": (
        torch.tensor([[0.0, 0, 0], [1, 1, 1], [2, 0.5, 2]]),
        InputError,
        "ts of sample 1 got 1 at index 1 and 0.5 at index 2",
    ),
    "nan": ([[0.0, 1.0], [0.0, math.nan], [0.0, 1.0]], InputError, "ts of sample 1 got 0 at index 0 and nan"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_times_of_a_sample_are_named(y0, case):
    ts, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        solve(ODETerm(swing), y0, ts, solver=Dopri5(), controller=TIGHT)


def test_what_times_of_ones_own_do_not_go_with(y0):
    with pytest.raises(InputError, match='not with norm="joint"'):
        solve(ODETerm(swing), y0, TABLE, solver=Dopri5(), controller=PID(1e-3, 1e-3, norm="joint"))
    with pytest.raises(InputError, match="in one layer"):
        solve(Layered([swing] * 3), y0, TABLE, solver=Euler())
    with pytest.raises(InputError, match="needs a gradient"):
        solve(ODETerm(swing), y0, TABLE.clone().requires_grad_(), solver=RK4())
    term = Partitioned(lambda t, p: p, lambda t, q: -q)
    with pytest.raises(InputError, match="ragged"):
        solve(term, (y0.requires_grad_(), y0), RAGGED, solver=Verlet(), gradient=Reversible())
    with pytest.raises(InputError, match="steps of one length"):
        solve(ODETerm(swing), y0, RAGGED, solver=Leapfrog())


def test_uniform_steps_of_ones_own(y0):
    """A two-step method, each sample with its own step length and number of steps."""
    ts = [np.linspace(0, 1, 201).tolist(), np.linspace(0, -1, 301).tolist(), np.linspace(1, 2, 401).tolist()]
    y1 = solve(ODETerm(swing), y0, ts, solver=Leapfrog()).y1
    assert torch.allclose(y1, exact(y0, torch.tensor([0.0, 0, 1]), torch.tensor([1.0, -1, 2])), atol=1e-4)


# jumps ----------------------------------------------------------------------------------------------------------------

JUMP = 0.3


def jumping(t, y):
    """dy/dt = 1 before the jump and −2 from it on; solution 1.3 − 2 (t − 0.3) behind it."""
    return torch.where(torch.as_tensor(t) < JUMP, 1.0, -2.0) * torch.ones_like(y)


@pytest.mark.parametrize("at", [0.0, 1.0])
@pytest.mark.parametrize("norm", ["sample", "joint"])
def test_steps_end_where_the_field_jumps_and_no_step_sees_both_sides(norm, at, double):
    """Exact for a piecewise constant field; `at` tells which side owns the jump, which must not matter."""

    def field(t, y):
        time = torch.as_tensor(t, dtype=y.dtype)
        before = time < JUMP if at else time <= JUMP
        return torch.where(before, 1.0, -2.0) * torch.ones_like(y)

    y0 = torch.tensor([[1.0], [0.5]])
    for ts in ([0.0, 1.0], [1.0, 0.0]):
        pid = PID(1e-8, 1e-8, norm=norm)
        solution = solve(ODETerm(field, jumps=[JUMP]), y0, ts, solver=Dopri5(), controller=pid)
        change = 0.3 - 2 * 0.7
        assert torch.allclose(solution.y1, y0 + (change if ts[0] == 0 else -change), rtol=1e-14)
        assert solution.stats.rejected.tolist() == [0, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("solver", [Dopri5(), RK4(), Kvaerno3(), RadauIIA5()], ids=repr)
def test_stages_at_the_ends_of_a_step_stay_on_its_side(solver, dtype):
    """Times found again as t0 + c (t1 − t0) round; many jumps in odd places, each of which would show."""
    jumps = [0.1 + 0.7 * k / 37 for k in range(38)]

    def field(t, y):
        number = sum((torch.as_tensor(t, dtype=torch.float64) >= jump).double() for jump in jumps)
        return torch.where(number % 2 > 0, 1.0, -1.0).to(y.dtype) * torch.ones_like(y)

    ts = [0.0, *jumps, 1.0]
    wanted = sum((-1.0) ** (k + 1) * (b - a) for k, (a, b) in enumerate(pairwise(ts)))
    steps = (None, PID(1e-4, 1e-6)) if solver.info.error_order else (None,)
    for controller in steps:
        y0 = torch.zeros(2, 1, dtype=dtype)
        y1 = solve(ODETerm(field, jumps=jumps), y0, ts, solver=solver, controller=controller).y1
        assert torch.allclose(y1, torch.full_like(y1, wanted), rtol=0, atol=100 * torch.finfo(dtype).eps)


def test_a_jump_costs_less_than_finding_it(double):
    y0 = torch.ones(2, 1)
    field = lambda t, y: jumping(t, y) + 0 * y  # noqa: E731
    told = solve(ODETerm(field, jumps=[JUMP]), y0, [0, 1], solver=Dopri5(), controller=PID(1e-8, 1e-8)).stats
    left = solve(ODETerm(field), y0, [0, 1], solver=Dopri5(), controller=PID(1e-8, 1e-8)).stats
    assert int(told.nfe[0]) < int(left.nfe[0]) and int(left.rejected[0]) > 0


def test_fixed_grids_begin_anew_at_jumps_among_their_times(double):
    """A two-step method that carried its slope over the jump would be off by h."""
    y1 = solve(ODETerm(jumping, jumps=[JUMP]), torch.ones(2, 1), [0.0, 0.1, 0.2, JUMP, 0.4, 1.0], solver=AB2()).y1
    assert torch.allclose(y1, torch.full((2, 1), 1.3 - 2 * 0.7), rtol=1e-14)


def test_jumps_on_ragged_fixed_grids(double):
    ts = [[0.0, JUMP, 1.0], [0.0, 0.1, JUMP, 0.5]]
    y1 = solve(ODETerm(jumping, jumps=[JUMP]), torch.ones(2, 1), ts, solver=Dopri5()).y1
    assert torch.allclose(y1[:, 0], torch.tensor([1.3 - 2 * 0.7, 1.3 - 2 * 0.2]), rtol=1e-14)


def test_jumps_must_be_times():
    with pytest.raises(InputError, match="finite times"):
        ODETerm(jumping, jumps=[math.nan])


# lengths of steps -----------------------------------------------------------------------------------------------------


def times_called(term_times, **options):
    seen = []

    def field(t, y):
        seen.extend(torch.as_tensor(t, dtype=torch.float64).ravel().tolist())
        return -y

    solution = solve(ODETerm(field), torch.ones(1, 1, dtype=torch.float64), term_times, solver=Dopri5(), **options)
    return seen, solution


@pytest.mark.parametrize("norm", ["sample", "joint"])
def test_steps_end_on_the_times_asked_for(norm):
    seen, _ = times_called([0.0, 2.0], controller=PID(1e-3, 1e-3, norm=norm, step_ts=(0.123, 1.5, 7.0)))
    assert 0.123 in seen and 1.5 in seen and 7.0 not in seen


def test_the_longest_step():
    _, solution = times_called([0.0, 2.0], controller=PID(1.0, 1.0, dtmax=0.1))
    assert 20 <= int(solution.stats.accepted[0]) <= 23


def test_no_step_is_longer_or_shorter_than_allowed():
    """Not even a little, to land; and the first one is not, whatever the estimate."""
    pid = PID(1e-9, 1e-9, dtmin=1e-3, dtmax=0.0499)
    _, solution = times_called([0.0, 0.5], controller=pid, saveat=SaveAt(dense=True))
    lengths = np.concatenate([segment.t1 - segment.t0 for segment in solution.dense.segments])
    assert lengths.max() <= 0.0499 * (1 + 1e-12) and lengths[:-1].min() >= 1e-3


def test_the_shortest_step_is_named_when_it_does_not_suffice():
    rates = torch.tensor([1.0, 1e5], dtype=torch.float64)
    term, y0, pid = Rows(rates, attracted), torch.ones(2, 1, dtype=torch.float64), PID(1e-6, 1e-6, dtmin=1e-3)
    with pytest.raises(StepUnderflow, match=r"shorter than dtmin = 0\.001") as caught:
        solve(term, y0, [0.0, 1.0], solver=Dopri5(), controller=pid)
    assert caught.value.samples == (1,)


def test_a_short_last_step_is_no_underflow():
    _, solution = times_called([0.0, 1.0], controller=PID(1e-3, 1e-3, dtmin=0.4, dtmax=0.45))
    assert torch.allclose(solution.y1, torch.full((1, 1), math.exp(-1), dtype=torch.float64), rtol=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtmin": 2.0, "dtmax": 1.0}, "dtmin=2.0, dtmax=1.0"),
        ({"dtmin": -1.0}, "0 <= dtmin"),
        ({"step_ts": (math.inf,)}, "finite"),
    ],
)
def test_bad_lengths(options, message):
    with pytest.raises(InputError, match=message):
        PID(1e-3, 1e-3, **options)


def test_a_tolerance_for_each_component_broadcasts_against_a_sample(double):
    atol = torch.tensor([1e-3, 1e-9])
    y1 = solve(ODETerm(lambda t, y: -y), torch.ones(4, 2), [0, 1], solver=Dopri5(), controller=PID(0.0, atol)).y1
    assert torch.allclose(y1, torch.full((4, 2), math.exp(-1)), atol=1e-8)
    with pytest.raises(InputError, match=r"atol of shape \(4, 1\) for samples of shape \(2,\)"):
        solve(
            ODETerm(lambda t, y: -y), torch.ones(4, 2), [0, 1], solver=Dopri5(), controller=PID(0.0, torch.ones(4, 1))
        )
