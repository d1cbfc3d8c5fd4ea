"""The solution between the steps."""

import math

import pytest
import torch

from deqlight import Layered, ODETerm, Partitioned, SaveAt, solve
from deqlight.controllers import PID, Constant
from deqlight.errors import InputError
from deqlight.gradients import Reversible
from deqlight.solvers import AB2, RK4, Bosh3, Dopri5, Heun, Stormer, Verlet

DENSE = SaveAt(dense=True)
TIGHT = PID(1e-9, 1e-9)


def swing(t, y):
    return y * torch.cos(torch.as_tensor(t, dtype=y.dtype))


def exact(y0, t):
    return y0 * torch.exp(torch.sin(torch.as_tensor(t, dtype=y0.dtype)))


@pytest.fixture
def y0(double):
    return torch.rand(3, 2) + 0.5


@pytest.mark.parametrize("norm", ["sample", "joint"])
def test_any_time_between(y0, norm):
    pid = PID(1e-9, 1e-9, norm=norm)
    solution = solve(ODETerm(swing), y0, [0.0, 1.0, 4.0], solver=Dopri5(), controller=pid, saveat=DENSE)
    assert solution.at(2.5).shape == (3, 2) and solution.at([0.1, 0.2]).shape == (2, 3, 2)
    for t in torch.linspace(0, 4, 37).tolist():
        assert torch.allclose(solution.at(t), exact(y0, t), atol=1e-7)
    own = torch.tensor([[0.3, 2.0, 3.9], [1.1, 0.0, 4.0]])
    assert torch.allclose(solution.at(own), exact(y0, own[..., None]), atol=1e-7)
    assert torch.allclose(solution.ys, exact(y0, solution.ts[:, None, None]), atol=1e-7)


def test_outputs_in_between_do_not_shorten_steps(y0):
    ts = torch.linspace(0, 4, 400).tolist()
    few = solve(ODETerm(swing), y0, [0.0, 4.0], solver=Dopri5(), controller=PID(1e-6, 1e-6)).stats
    many = solve(ODETerm(swing), y0, ts, solver=Dopri5(), controller=PID(1e-6, 1e-6), saveat=DENSE)
    assert torch.equal(few.nfe, many.stats.nfe)
    assert torch.allclose(many.ys, exact(y0, torch.tensor(ts)[:, None, None]), atol=1e-4)


@pytest.mark.parametrize("ts", [[0.0, 1.0, 2.0], [2.0, 1.0, 0.0]])
def test_on_a_fixed_grid_forth_and_back(y0, ts):
    start = exact(y0, ts[0])
    options = {"solver": RK4(), "controller": Constant(steps=40), "saveat": DENSE}
    solution = solve(ODETerm(swing), start, ts, **options)
    for t in (0.0, 0.013, 0.7, 1.999, 2.0):
        assert torch.allclose(solution.at(t), exact(y0, t), atol=1e-6)
    assert torch.equal(solution.at(ts[1]), solution.ys[1]) or torch.allclose(
        solution.at(ts[1]), solution.ys[1], rtol=1e-14
    )


def test_hermites_evaluations_are_counted(y0):
    for solver, unknown in ((AB2(), 2), (Heun(), 1), (Bosh3(), 0)):  # the slopes at the ends that a step does not know
        plain = solve(ODETerm(swing), y0, [0, 1], solver=solver, controller=Constant(steps=10)).stats
        dense = solve(ODETerm(swing), y0, [0, 1], solver=solver, controller=Constant(steps=10), saveat=DENSE).stats
        assert int(dense.nfe[0] - plain.nfe[0]) == 10 * unknown


def test_states_of_other_kinds(y0):
    term = Partitioned(lambda t, p: p, lambda t, q: -q)
    pair = solve(term, (y0, y0), [0, 1], solver=Verlet(), controller=Constant(steps=200), saveat=DENSE)
    q, p = pair.at(0.4321)
    assert torch.allclose(q, y0 * (math.cos(0.4321) + math.sin(0.4321)), atol=1e-5) and p.shape == y0.shape
    rk4 = {"solver": RK4(), "controller": Constant(steps=20), "saveat": DENSE}
    single = solve(ODETerm(lambda t, y: -y), torch.tensor(1.0), [0.0, 1.0], **rk4)
    assert single.at(0.5).shape == () and float(single.at(0.5)) == pytest.approx(math.exp(-0.5), abs=1e-6)
    layers = solve(Layered([lambda t, y: -y, lambda t, y: 2 * y]), y0, [0.0, 1.0, 2.0], **rk4)
    assert torch.allclose(layers.at(1.5), y0 * math.exp(-1 + 1.0), atol=1e-6)


def test_it_is_differentiable_in_the_state_and_in_time(y0):
    y0.requires_grad_()
    solution = solve(ODETerm(swing), y0, [0.0, 2.0], solver=Dopri5(), controller=TIGHT, saveat=DENSE)
    t = torch.tensor([0.7], requires_grad=True)
    value = solution.at(t).sum()
    dy, dt = torch.autograd.grad(value, (y0, t))
    assert torch.allclose(dy, torch.full_like(dy, math.exp(math.sin(0.7))), rtol=1e-6)
    assert float(dt) == pytest.approx(float(exact(y0, 0.7).sum() * math.cos(0.7)), rel=1e-4)


def test_a_jump_between_steps_stays_sharp(double):
    def field(t, y):
        return torch.where(torch.as_tensor(t, dtype=y.dtype) < 0.3, 1.0, -2.0) * torch.ones_like(y)

    term = ODETerm(field, jumps=[0.3])
    solution = solve(term, torch.ones(1, 1), [0.0, 1.0], solver=Dopri5(), controller=TIGHT, saveat=DENSE)
    for t, y in ((0.299, 1.299), (0.3, 1.3), (0.301, 1.298)):
        assert float(solution.at(t)) == pytest.approx(y, abs=1e-12)


def test_what_is_refused(y0):
    term = ODETerm(swing)
    with pytest.raises(InputError, match="SaveAt"):
        solve(term, y0, [0, 1], solver=RK4()).at(0.5)
    solution = solve(term, y0, [0, 1], solver=RK4(), saveat=DENSE)
    with pytest.raises(InputError, match=r"t = 1.5, sample 0 was solved from 0 to 1"):
        solution.at(1.5)
    with pytest.raises(InputError, match="t = nan"):
        solution.at(math.nan)
    with pytest.raises(InputError, match="no dense output"):
        solve(term, y0, [0, 1], solver=Stormer(), saveat=DENSE)
    pair = (y0.requires_grad_(), y0)
    with pytest.raises(InputError, match="dense=True"):
        solve(Partitioned(swing, swing), pair, [0, 1], solver=Verlet(), gradient=Reversible(), saveat=DENSE)
