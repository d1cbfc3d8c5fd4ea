"""Checkpointed gradients are the direct ones, whatever the clocks did, from no more states than the budget allows."""

import gc
import math
import pickle
import weakref
from functools import cache

import pytest
import torch
from rows import Rows, attracted
from rules import EXACT, Bent, Rated, differentiated, gap, same_bits
from torch import nn

from deqlight import Layered, ODETerm, SaveAt, solve
from deqlight.controllers import PID, Constant
from deqlight.errors import InputError, NonFinite
from deqlight.gradients import Checkpoint, Direct
from deqlight.gradients._plan import cost, planned, split
from deqlight.gradients._script import States
from deqlight.policies import Fallback, Freeze
from deqlight.solvers import AB3, RK4, Dopri5, Heun, ImplicitEuler, ReversibleHeun, Rodas4
from deqlight.testing.memory import measured_memory

BUDGETS = [None, 1, 2, 3, 8]


@cache
def least(pieces, slots):
    """The least number of pieces to go over again, by trying all that can be done."""
    if pieces <= 1:
        return 0
    if slots == 1:
        return pieces * (pieces - 1) // 2
    return min(k + least(pieces - k, slots - 1) + least(k, slots) for k in range(1, pieces))


def test_the_plan_is_the_best_one():
    for slots in range(1, 7):
        for pieces in range(2, 40):
            k = split(pieces, slots)
            rest = least(pieces - k, slots - 1) if slots > 1 else 0
            assert k + rest + least(k, slots) == least(pieces, slots) == cost(pieces, slots)


def test_places_fit_the_budget():
    for steps in range(1, 200):
        for budget in (1, 2, 5, 14):
            length, places = planned(steps, budget)
            assert len(places) < budget and 1 <= length <= budget
            assert places == sorted(set(places)) and all(0 < place < steps for place in places)
            if steps <= budget:
                assert length == 1 and places == list(range(1, steps))
    assert planned(16, 4) == (4, [4, 8, 12])  # √n states, pieces of √n steps


def jumping(t, y):
    return -y + (torch.as_tensor(t) > 0.7)


TABLE = torch.tensor([[0.0, 1.0, 0.0, 2.0], [1.0, 0.0, 3.0, 3.5]], dtype=torch.float64)
RATES = torch.tensor([1.0, 300.0, 5.0, 60.0], dtype=torch.float64)
OWN = [[0.0, 1.0], [0.0, 0.5, 2.0], [1.0, 0.0], [0.0, 0.3, 0.4, 1.0]]
CASES = {
    "fixed": (RK4(), Constant(steps=9), ODETerm(Bent(2)), [0.0, 0.5, 2.0]),
    "fixed, back": (RK4(), Constant(steps=9), ODETerm(Bent(2)), [2.0, 0.5, 0.0]),
    "fixed, carry": (AB3(), Constant(steps=9), ODETerm(Bent(2)), [0.0, 1.0, 2.0]),
    "fixed, jump": (ReversibleHeun(), Constant(dt=0.1), ODETerm(jumping, jumps=[0.7]), [0.0, 0.7, 2.0]),
    "fixed, own times": (RK4(), Constant(steps=4), ODETerm(Bent(2)), OWN),
    "joint": (Dopri5(), PID(1e-6, 1e-8, norm="joint"), ODETerm(Bent(2)), [0.0, 0.5, 2.0]),
    "own clocks": (Dopri5(), PID(1e-6, 1e-8), ODETerm(Bent(2)), [0.0, 0.5, 2.0]),
    "own clocks, jump": (Dopri5(), PID(1e-4, 1e-6), ODETerm(jumping, jumps=[0.7]), [0.0, 0.5, 2.0]),
    "own times": (Dopri5(), PID(1e-4, 1e-6), ODETerm(Bent(2)), OWN),
    "own times, table": (Heun(), PID(1e-3, 1e-4), ODETerm(Bent(2)), TABLE),
    "implicit": (ImplicitEuler(), Constant(steps=3), ODETerm(Bent(2)), [0.0, 0.3, 1.0]),
    "stiff rows": (Dopri5(), PID(1e-4, 1e-6), Rows(RATES, attracted), [0.0, 0.5]),
}


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("case", CASES)
def test_equals_direct_and_holds_no_more_than_the_budget(case, budget, double, monkeypatch):
    solver, controller, term, ts = CASES[case]
    term, held = term.double(), []
    hold = States.hold
    monkeypatch.setattr(States, "hold", lambda self, *args: (hold(self, *args), held.append(len(self))))
    y0 = torch.linspace(0.1, 4.0, 8).reshape(4, 2).requires_grad_()
    for saveat in (None, SaveAt(final=True)):
        options = {"solver": solver, "controller": controller, "saveat": saveat}
        direct, expected = differentiated(term, y0, ts, Direct(), **options)
        solution, found = differentiated(term, y0, ts, Checkpoint(budget), **options)
        assert same_bits(direct.ys, solution.ys) and gap(expected, found) < EXACT
        assert all(map(torch.equal, *([s.nfe, s.accepted, s.rejected] for s in (direct.stats, solution.stats))))
    assert budget is None or max(held, default=1) <= budget


@pytest.mark.parametrize("budget", [None, 2])
def test_data_of_each_sample_get_their_gradients(budget, double):
    rates, y0 = torch.tensor([1.0, 20.0, 2.0], requires_grad=True), torch.randn(3, 2, requires_grad=True)
    for ts in ([0.0, 0.2, 0.5], OWN[:3]):
        options = {"solver": Dopri5(), "controller": PID(1e-4, 1e-6), "more": [rates]}
        _, expected = differentiated(Rated(rates), y0, ts, Direct(), **options)
        _, found = differentiated(Rated(rates), y0, ts, Checkpoint(budget), **options)
        assert gap(expected, found) < EXACT


def test_tuples_and_states_without_a_batch(double):
    def field(t, y):
        return y[1], -torch.sin(y[0]) * (1 + t)

    y0 = torch.randn(3, 2, requires_grad=True), torch.randn(3, 2, requires_grad=True)
    one = torch.tensor(0.3, requires_grad=True)
    for controller in (Constant(steps=7), PID(1e-6, 1e-8, norm="joint")):
        options = {"solver": Dopri5(), "controller": controller}
        for term, y in ((ODETerm(field), y0), (ODETerm(lambda t, y: torch.cos(3 * y) + t), one)):
            direct, expected = differentiated(term, y, [0.0, 0.5, 2.0], Direct(), **options)
            solution, found = differentiated(term, y, [0.0, 0.5, 2.0], Checkpoint(2), **options)
            assert same_bits(direct.ys, solution.ys) and gap(expected, found) < EXACT


def test_one_tensor_for_both_halves_of_a_state_counts_twice(double):
    x, term = torch.randn(3, 2, requires_grad=True), ODETerm(lambda t, y: (torch.sin(y[1]), -y[0]))
    found = []
    for gradient in (Direct(), Checkpoint(), Checkpoint(1)):
        q, p = solve(term, (x, x), [0.0, 1.0], solver=RK4(), controller=Constant(steps=5), gradient=gradient).y1
        found.append(torch.autograd.grad((q * p).sum(), [x]))
    assert gap(found[0], found[1]) < EXACT and gap(found[0], found[2]) < EXACT


@pytest.mark.parametrize(
    "controller", [Constant(steps=1000), PID(1e-2, 1e-2, norm="joint", dtmax=0.01)], ids=["fixed", "measured"]
)
def test_a_thousand_steps_with_eight_states(controller, double):
    term, y0 = ODETerm(Bent(2)), torch.randn(3, 2, requires_grad=True)
    options = {"solver": Heun(), "controller": controller, "saveat": SaveAt(final=True)}
    direct, expected = differentiated(term, y0, [0.0, 10.0], Direct(), **options)
    solution, found = differentiated(term, y0, [0.0, 10.0], Checkpoint(8), **options)
    assert direct.stats.accepted[0] >= 1000
    assert same_bits(direct.ys, solution.ys) and gap(expected, found) < 1e-9  # of a thousand steps
    assert solution.stats.nfe_backward < 5 * direct.stats.nfe[0]  # binomial: about 3.6 for 125 pieces


@pytest.mark.parametrize("budget", [None, 4, 6])
def test_a_state_a_step_or_the_root_of_them_cost_one_evaluation_for_each(budget, double):
    term, y0 = ODETerm(Bent(2)), torch.randn(3, 2, requires_grad=True)
    options = {"solver": RK4(), "controller": Constant(steps=16)}
    solution, _ = differentiated(term, y0, [0.0, 1.0], Checkpoint(budget), **options)
    assert solution.stats.nfe_backward == solution.stats.nfe[0] == 64


def test_memory_is_bounded_whatever_the_number_of_steps():
    field = nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 8))
    term, y0 = ODETerm(lambda t, y: field(y), context=list(field.parameters())), torch.randn(32, 8)

    def memory(steps, gradient):
        options = {"solver": RK4(), "controller": Constant(steps=steps), "saveat": SaveAt(final=True)}
        run = lambda: solve(term, y0, [0.0, 1.0], gradient=gradient, **options).y1.sum()  # noqa: E731
        return measured_memory(run, list(field.parameters()))

    few, many = memory(16, Checkpoint(4)), memory(64, Checkpoint(4))
    assert many.kept <= few.kept and many.peak <= 1.05 * few.peak
    assert memory(32, Direct()).kept > 5 * many.kept
    state = y0.numel() * 4
    assert memory(32, Checkpoint()).kept <= 34 * state  # one a step, and the output


def test_steps_that_are_rejected_are_not_taken_again(double):
    """A field with a kink: steps over it are rejected."""
    term = ODETerm(lambda t, y: -y.abs() * (1 + 20 * (torch.as_tensor(t) > 0.4)), jumps=())
    y0 = torch.rand(3, 2, requires_grad=True)
    for norm in ("joint", "sample"):
        options = {"solver": Dopri5(), "controller": PID(1e-5, 1e-7, norm=norm)}
        direct, expected = differentiated(term, y0, [0.0, 1.0], Direct(), **options)
        solution, found = differentiated(term, y0, [0.0, 1.0], Checkpoint(), **options)
        assert (solution.stats.rejected > 0).any() and same_bits(direct.ys, solution.ys)
        assert gap(expected, found) < EXACT
        assert norm == "sample" or solution.stats.nfe_backward == 1 + 6 * int(solution.stats.accepted[0])


def test_a_step_into_nan_that_is_thrown_away_leaves_no_trace(double):
    """The root is not finite where the first, too long step of one sample looks; the others wait for it."""
    term = ODETerm(lambda t, y: -torch.sqrt(y))
    y0 = torch.tensor([[1.0], [0.04]], requires_grad=True)
    options = {"solver": Heun(), "controller": PID(1e-2, 1e-2, first_step=0.39)}
    direct, expected = differentiated(term, y0, [0.0, 0.395], Direct(), **options)
    solution, found = differentiated(term, y0, [0.0, 0.395], Checkpoint(), **options)
    assert (direct.stats.rejected > 0).any() and all(g.isfinite().all() for g in expected)
    assert same_bits(direct.ys, solution.ys) and gap(expected, found) < EXACT


class Poisoned(nn.Module):
    """Infinite for the samples that begin above two, once they have moved a little."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(1, 1)

    def forward(self, t, y):
        rate = self.linear(torch.ones_like(y[:, :1]))
        return torch.where(y > 2.2, torch.full_like(y, math.inf), rate.abs() + 1.0) * torch.ones_like(y)


@pytest.mark.parametrize("controller", [Constant(steps=8), PID(1e-3, 1e-3), PID(1e-3, 1e-3, norm="joint")], ids=repr)
def test_policies_go_with_it(controller, double):
    term, y0 = ODETerm(Poisoned()), torch.tensor([[0.1], [2.0], [0.5]], requires_grad=True)
    with pytest.raises(NonFinite):
        solve(term, y0, [0.0, 0.1, 0.5], solver=Heun(), controller=controller, gradient=Checkpoint())
    for policy in (Freeze(), Fallback(Dopri5(), then=Freeze())):
        options = {"solver": Heun(), "controller": controller, "on_failure": policy}
        direct, expected = differentiated(term, y0, [0.0, 0.1, 0.5], Direct(), **options)
        solution, found = differentiated(term, y0, [0.0, 0.1, 0.5], Checkpoint(2), **options)
        assert [f.samples for f in solution.failures] == [f.samples for f in direct.failures] == [(1,)]
        assert same_bits(direct.ys, solution.ys) and gap(expected, found) < EXACT


@pytest.mark.parametrize("controller", [Constant(steps=5), PID(1e-4, 1e-6), PID(1e-4, 1e-6, norm="joint")], ids=repr)
@pytest.mark.parametrize("budget", [None, 2])
def test_second_derivatives_are_the_direct_ones(controller, budget, double):
    field = Bent(2)
    term, y0 = ODETerm(field), torch.randn(3, 2, requires_grad=True)
    inputs, found = [y0, *term.parameters()], []
    for gradient in (Direct(), Checkpoint(budget)):
        ys = solve(term, y0 * 1.5, [0.0, 0.5, 1.0], solver=Dopri5(), controller=controller, gradient=gradient).ys
        first = torch.autograd.grad(ys.square().sum(), inputs, create_graph=True)
        found.append(torch.autograd.grad(sum(g.square().sum() for g in first), inputs))
    assert gap(*found) < EXACT


def test_gradgradcheck(double):
    term, y0 = ODETerm(lambda t, y: torch.sin(y) * (1 + t)), torch.randn(2, 1, requires_grad=True)

    def solved(y):
        return solve(term, y, [0.0, 1.0], solver=RK4(), controller=Constant(steps=3), gradient=Checkpoint(2)).y1

    assert torch.autograd.gradcheck(solved, (y0,)) and torch.autograd.gradgradcheck(solved, (y0,))


def test_the_graph_does_not_outlive_its_output(double):
    term, y0 = ODETerm(Bent(2)), torch.randn(3, 2, requires_grad=True)
    y1 = solve(term, y0, [0.0, 1.0], solver=RK4(), controller=Constant(steps=5), gradient=Checkpoint()).y1
    script = weakref.ref(next(o for o in gc.get_objects() if isinstance(o, States)))
    gc.disable()
    try:
        del y1
        assert script() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("budget", [0, -3])
def test_a_budget_below_one_is_refused(budget):
    with pytest.raises(InputError, match=f"budget={budget}; it needs at least 1"):
        Checkpoint(budget)


def test_it_is_a_value():
    assert Checkpoint() == Checkpoint(None) != Checkpoint(3) and hash(Checkpoint(3)) == hash(Checkpoint(3))
    assert pickle.loads(pickle.dumps(Checkpoint(3))) == Checkpoint(3)


def test_an_empty_batch():
    y0 = torch.zeros(0, 2, requires_grad=True)
    for controller in (Constant(steps=3), PID(1e-3, 1e-3), PID(1e-3, 1e-3, norm="joint")):
        y1 = solve(
            ODETerm(lambda t, y: -y), y0, [0.0, 1.0], solver=Heun(), controller=controller, gradient=Checkpoint()
        ).y1
        assert y1.shape == (0, 2)


@pytest.mark.parametrize("solver", [Rodas4(), ImplicitEuler()], ids=repr)
def test_solvers_that_linearise_may_start_from_a_state_without_a_gradient(solver, double):
    """They make a leaf of their own there, which is nobody's tensor."""
    block = Bent(4)
    term, y0, found = Layered([block, Bent(4), block]), torch.randn(8, 4), []
    for gradient in (Direct(), Checkpoint()):
        y1 = solve(term, y0, [0.0, 1.0, 2.0, 3.0], solver=solver, gradient=gradient).y1
        found.append(torch.autograd.grad(y1.sum(), list(term.parameters())))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_evaluations_on_the_way_back_are_told_where_samples_were_solved_again(double):
    def breaking(t, y):
        return torch.where(y > 5, torch.nan, -y)

    y0 = torch.tensor([[1.0], [9.0], [2.0]], requires_grad=True)
    options = {"solver": RK4(), "controller": Constant(steps=4), "gradient": Checkpoint()}
    solution = solve(ODETerm(breaking), y0, [0.0, 1.0], on_failure=Freeze(), **options)
    solution.y1[::2].sum().backward()
    assert solution.stats.nfe_backward == 16
