"""Compositions of kicks and drifts: where their clocks stand, their orders, their inverses, what they preserve."""

import math
from itertools import pairwise

import pytest
import torch

from deqlight import Layered, ODETerm, Partitioned, solve
from deqlight.controllers import Constant
from deqlight.solvers import Dopri8, Ruth3, SymplecticEuler, Verlet, Yoshida4
from deqlight.solvers.symplectic import YOSHIDA
from deqlight.states import leaves

METHODS = [SymplecticEuler(), Verlet(), Ruth3(), Yoshida4()]
CARRYING = [Verlet(), Yoshida4()]

ORDER_TOLERANCE = 0.15
"""What the next term of the error leaves of a slope between 64 and 128 steps; at order 4 errors are near 1e-11."""

ROUNDING = 1e-14
"""Some tens of operations on numbers of size one."""

CONDITION = 1e-15
"""Sums of three products of quotients."""

pytestmark = pytest.mark.usefixtures("double")


def velocity(t, p):
    return p + 0.3 * math.cos(2 * t) * p**3


def force(t, q):
    return -torch.sin(q) * (1 + 0.5 * math.sin(3 * t))


def start():
    return torch.tensor([[0.4], [0.9]]), torch.tensor([[0.8], [-0.3]])


def pendulum():
    return Partitioned(lambda t, p: p, lambda t, q: -torch.sin(q))


def run(solver, times, term=None, y0=None):
    term = Partitioned(velocity, force) if term is None else term
    return solve(term, start() if y0 is None else y0, times, solver=solver).y1


def gap(a, b):
    return max(float((x - y).detach().abs().max()) for x, y in zip(leaves(a), leaves(b), strict=True))


@pytest.mark.parametrize(
    ("solver", "velocities", "forces"),
    [
        (SymplecticEuler(), [0.0], [1.0]),
        (Verlet(), [0.5], [0.0, 1.0]),
        (Ruth3(), [0.0, -1 / 24, 17 / 24], [1.0, 1 / 3, 1.0]),
        (
            Yoshida4(),
            [YOSHIDA / 2, 0.5, 1 - YOSHIDA / 2],
            [0.0, YOSHIDA, 1 - YOSHIDA, 1.0],
        ),
    ],
    ids=repr,
)
def test_each_field_is_evaluated_where_the_half_it_is_given_has_come_to(solver, velocities, forces):
    called = {"velocity": [], "force": []}

    def field(name):
        def value(t, x):
            called[name].append(t)
            return x

        return value

    term = Partitioned(field("velocity"), field("force"))
    t0, t1 = 0.3, 0.8
    solver.step(term, t0, t1, start(), solver.init(term, t0, t1, start()))
    for name, nodes in (("velocity", velocities), ("force", forces)):
        assert called[name] == pytest.approx([t0 + (t1 - t0) * node for node in nodes], abs=ROUNDING)
    assert called["force"][-1] == t1  # exactly, for blocks and tables that are looked up by time


@pytest.mark.parametrize("solver", METHODS, ids=repr)
@pytest.mark.parametrize("direction", [1, -1], ids=["forwards", "backwards"])
def test_order_where_both_fields_depend_on_time(solver, direction):
    def whole(t, y):
        return velocity(t, y[1]), force(t, y[0])

    ends = [0.0, 1.0][::direction]
    exact = solve(ODETerm(whole), start(), ends, solver=Dopri8(), controller=Constant(steps=16)).y1

    def error(n):
        return gap(run(solver, [i / n for i in range(n + 1)][::direction]), exact)

    assert math.log2(error(64) / error(128)) == pytest.approx(solver.info.order, abs=ORDER_TOLERANCE)


def test_ruths_coefficients_satisfy_the_conditions_of_order_three():
    drifts, kicks = ([m.weight for m in Ruth3.moves if m.kick == kind] for kind in (False, True))
    q = [sum(drifts[: i + 1]) for i in range(3)]  # how far q has come at each kick
    p = [sum(kicks[i:]) for i in range(3)]  # how much p has yet to go at each drift
    assert (sum(drifts), sum(kicks)) == pytest.approx((1, 1), abs=CONDITION)
    assert sum(d * x for d, x in zip(kicks, q, strict=True)) == pytest.approx(1 / 2, abs=CONDITION)
    assert sum(d * x * x for d, x in zip(kicks, q, strict=True)) == pytest.approx(1 / 3, abs=CONDITION)
    assert sum(c * x * x for c, x in zip(drifts, p, strict=True)) == pytest.approx(1 / 3, abs=CONDITION)


def test_yoshida_is_three_steps_of_verlet():
    h, t = 0.2, 0.3
    times = [t, t + YOSHIDA * h, t + (1 - YOSHIDA) * h, t + h]
    term, y = Partitioned(velocity, force), start()
    carry = Verlet().init(term, times[0], times[-1], y)
    for t0, t1 in pairwise(times):
        y, carry = Verlet().step(term, t0, t1, y, carry)[:2]
    assert gap(run(Yoshida4(), [t, t + h]), y) < ROUNDING


@pytest.mark.parametrize("solver", METHODS, ids=repr)
def test_a_step_is_undone_and_so_is_its_memory(solver):
    term, y0 = Partitioned(velocity, force), start()
    carry = solver.init(term, 0.3, 0.8, y0)
    there = solver.step(term, 0.3, 0.8, y0, carry)
    back = solver.unstep(term, 0.3, 0.8, there.y, there.carry)
    assert gap(back.y, y0) < ROUNDING
    assert (back.carry is None) == (carry is None)
    assert carry is None or gap(back.carry, carry) < ROUNDING
    assert solver.contraction == 1.0


@pytest.mark.parametrize("solver", CARRYING, ids=repr)
def test_the_field_that_is_carried_over_changes_nothing_but_the_cost(solver):
    times = [0.0, 0.2, 0.5, 0.6]
    whole, anew = Partitioned(velocity, force), Partitioned(velocity, force)
    anew.continuous = False
    found = [solve(term, start(), times, solver=solver) for term in (whole, anew)]
    assert gap(found[0].y1, found[1].y1) < ROUNDING
    step, begin = solver.info.nfe_step, solver.info.nfe_start
    assert [int(s.stats.nfe[0]) for s in found] == [begin + 3 * step, 3 * (step + begin)]


@pytest.mark.parametrize("solver", METHODS, ids=repr)
def test_volume_and_form_are_preserved_by_steps_of_any_length(solver):
    def step(z):
        y0 = z[:1, None], z[1:, None]
        carry = solver.init(pendulum(), 0.0, 0.7, y0)
        return torch.cat(leaves(solver.step(pendulum(), 0.0, 0.7, y0, carry).y)).flatten()

    jacobian = torch.func.jacrev(step)(torch.tensor([0.8, 0.6]))
    form = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    assert float((jacobian.T @ form @ jacobian - form).abs().max()) < ROUNDING


@pytest.mark.parametrize(
    ("solver", "symmetric"),
    [(SymplecticEuler(), False), (Verlet(), True), (Ruth3(), False), (Yoshida4(), True)],
    ids=repr,
)
def test_symmetric_methods_undo_themselves_by_a_step_back(solver, symmetric):
    back = run(solver, [0.8, 0.3], y0=run(solver, [0.3, 0.8]))
    assert (gap(back, start()) < ROUNDING) == symmetric


@pytest.mark.parametrize("solver", METHODS, ids=repr)
def test_energy_stays_near_where_it_was(solver):
    """A thousand swings; its error is that of one, of the method's order."""

    def energy(y):
        return (y[1] ** 2 / 2 - torch.cos(y[0])).flatten()

    y0, h, steps = start(), 0.1, 2000
    term, y = pendulum(), y0
    carry, drift = solver.init(term, 0.0, h * steps, y0), []
    for n in range(steps):
        y, carry = solver.step(term, n * h, (n + 1) * h, y, carry)[:2]
        drift.append((energy(y) - energy(y0)).abs().max())
    first, last = (float(torch.stack(part).max()) for part in (drift[:500], drift[-500:]))
    assert last < 1.01 * first < h**solver.info.order


@pytest.mark.parametrize("solver", METHODS, ids=repr)
def test_each_sample_may_have_its_own_clock(solver):
    term = Partitioned(lambda t, p: p * (1 + t), lambda t, q: -q * (2 - t))
    t0, t1 = torch.tensor([[0.1], [0.4]]), torch.tensor([[0.3], [0.2]])
    both = solver.step(term, t0, t1, start(), solver.init(term, t0, t1, start())).y
    for i in range(2):
        alone = run(solver, [float(t0[i]), float(t1[i])], term, tuple(leaf[i : i + 1] for leaf in start()))
        assert gap(tuple(leaf[i : i + 1] for leaf in both), alone) < ROUNDING


def test_halves_may_differ_in_shape():
    term = Partitioned(lambda t, p: p.sum(1, keepdim=True), lambda t, q: -q.expand(-1, 3))
    q, p = Ruth3().step(term, 0.0, 0.1, (torch.ones(2, 1), torch.zeros(2, 3)), None).y
    assert q.shape == (2, 1) and p.shape == (2, 3)
    assert float(q[0]) == pytest.approx(math.cos(0.1 * math.sqrt(3)), abs=1e-4)  # q'' = −3q, a step of order 3


@pytest.mark.parametrize("solver", METHODS, ids=repr)
def test_on_layers_all_moves_of_a_step_take_its_own_layer(solver):
    layers = [[torch.nn.Linear(3, 3) for _ in range(2)] for _ in range(2)]
    blocks = [[lambda t, y, layer=layer: torch.tanh(layer(y)) for layer in half] for half in layers]
    whole = Partitioned(*map(Layered, blocks))
    y0 = torch.randn(2, 3), torch.randn(2, 3)
    y = y0
    for n in range(2):
        y = run(solver, [n, n + 1], Partitioned(*(half[n] for half in blocks)), y)
    assert gap(run(solver, [0, 1, 2], whole, y0), y) < ROUNDING
