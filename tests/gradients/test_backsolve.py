"""The continuous adjoint agrees to its tolerance, costs what it says, and says what it cannot do."""

import math
import pickle

import pytest
import torch
from rules import EXAMPLES, Bent, Linear, Rated, differentiated, gap
from torch import nn

from deqlight import Layered, ODETerm, Partitioned, SaveAt, solve
from deqlight.controllers import PID, Constant
from deqlight.errors import InputError, MaxSteps, NonFinite
from deqlight.gradients import Backsolve, Direct
from deqlight.gradients._quadrature import Outline, told
from deqlight.policies import Freeze
from deqlight.solvers import (
    RK4,
    RKC,
    AsynchronousLeapfrog,
    Bosh3,
    Dopri5,
    Dopri8,
    Euler,
    ExplicitRungeKutta,
    Heun,
    Kvaerno5,
    Leapfrog,
    LearnedRungeKutta,
    LinearTwoStep,
    Rodas4,
    StepDoubling,
    Stormer,
    SymplecticEuler,
    Tsit5,
)
from deqlight.terms import Term
from deqlight.testing.memory import measured_memory

WITHIN = 30.0
"""How many tolerances the gradients may differ by: errors of two passes, carried over a length of two."""

OWN = [[0.0, 1.0], [0.0, 0.5, 2.0], [1.0, 0.0], [0.0, 0.3, 0.4, 1.0]]
TABLE = torch.tensor([[0.0, 1.0, 0.0, 0.1], [1.0, 0.0, 2.0, 3.0], [2.0, -1.0, 3.0, 4.0]], dtype=torch.float64)
TIMES = {"shared": [0.0, 0.5, 2.0], "back": [2.0, 0.5, 0.0], "ragged": OWN, "table": TABLE}


@pytest.mark.parametrize("final", [False, True], ids=["all", "final"])
@pytest.mark.parametrize("tolerance", [1e-3, 1e-5, 1e-7, 1e-9])
@pytest.mark.parametrize("case", [*TIMES, "joint"])
def test_agrees_with_direct_to_the_tolerance(case, tolerance, final, double):
    term, y0 = ODETerm(Bent()), torch.randn(4, 4, requires_grad=True)
    ts, norm = (TIMES["shared"], "joint") if case == "joint" else (TIMES[case], "sample")
    options = {"solver": Dopri5(), "controller": PID(tolerance, tolerance, norm=norm), "saveat": SaveAt(final=final)}
    _, expected = differentiated(term, y0, ts, Direct(), **options)
    solution, found = differentiated(term, y0, ts, Backsolve(), **options)
    assert gap(expected, found) < WITHIN * tolerance
    assert solution.stats.nfe_backward > 0


ORDERS = {Euler(): 1, Heun(): 2, Bosh3(): 3, RK4(): 4, Dopri5(): 5, RKC(4): 2, StepDoubling(Heun()): 2}


@pytest.mark.parametrize("solver", ORDERS, ids=repr)
def test_on_fixed_grids_it_agrees_to_the_order(solver, double):
    """Evaluations carried over steps, methods with stages, wrapped ones: each is worth what its solver makes of it."""
    term, y0, errors = ODETerm(Bent()), torch.randn(3, 4, requires_grad=True), []
    _, exact = differentiated(term, y0, [0.0, 0.5, 1.0], Direct(), solver=Dopri8(), controller=PID(1e-12, 1e-12))
    for n in (8, 16):
        options = {"solver": solver, "controller": Constant(steps=n)}
        _, found = differentiated(term, y0, [0.0, 0.5, 1.0], Backsolve(), **options)
        errors.append(gap(exact, found))
    assert math.log2(errors[0] / errors[1]) > ORDERS[solver] - 0.3


ABLE = [s for s in EXAMPLES if not isinstance(s, LinearTwoStep | LearnedRungeKutta)]


def is_accepted(solver):
    try:
        Backsolve().check(solver, Constant(steps=1))
    except InputError:
        return False
    return True


@pytest.mark.parametrize("solver", filter(is_accepted, ABLE), ids=repr)
def test_every_solver_that_is_accepted_is_right(solver, double):
    term, y0 = ODETerm(Bent()), torch.randn(3, 4, requires_grad=True)
    options = {"solver": solver, "controller": Constant(steps=40)}
    _, expected = differentiated(term, y0, [0.0, 0.5, 1.0], Direct(), **options)
    _, found = differentiated(term, y0, [0.0, 0.5, 1.0], Backsolve(), **options)
    assert gap(expected, found) < {1: 0.05, 2: 2e-3}.get(solver.info.order, 1e-4)


def test_all_explicit_one_step_methods_are_accepted():
    assert all(is_accepted(solver) for solver in EXAMPLES if isinstance(solver, ExplicitRungeKutta))
    refused = [solver for solver in EXAMPLES if not is_accepted(solver)]
    assert all(
        s.info.nfe_step is None or s.info.steps > 1 or s.info.terms != (Term,) or s.info.stiff_order for s in refused
    )


@pytest.mark.parametrize("solver", [Euler(), RK4(), Dopri5(), Dopri8(), RKC(5), StepDoubling(RK4())], ids=repr)
def test_a_solver_tells_the_weights_of_its_evaluations(solver, double):
    """Those of its tableau, times the step; the evaluation that is carried over has a place of its own."""
    outline = Outline(solver, continuous=True)
    first, second, third = (outline.weights(0.3, 0.3 + h) for h in (0.1, 0.2, -0.4))
    assert sum(first) == pytest.approx(0.1, abs=1e-14)
    assert second == pytest.approx([2 * w for w in first], abs=1e-14)
    assert third == pytest.approx([-4 * w for w in first], abs=1e-14)
    if isinstance(solver, ExplicitRungeKutta):
        assert first == pytest.approx([0.1 * b for b in solver.tableau.b], abs=1e-14)
        assert outline.leaving == (len(first) - 1 if solver.tableau.fsal else None)
    times = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.1], [0.5]])
    table = told(solver, *times).weights
    assert torch.allclose(table[0] * -5, table[1]) and torch.allclose(table.sum(1), torch.tensor([0.1, -0.5]))


def test_parameters_do_not_enter_the_error(double):
    """Steps are the same, whatever the parameters and however large their gradients."""
    y0, calls = torch.randn(3, 4, requires_grad=True), []
    for scale in (1.0, 1e6):
        torch.manual_seed(5)
        field, offset = Bent(), nn.Parameter(torch.zeros(4))
        context = [offset, *field.parameters()]
        term = ODETerm(lambda t, y, f=field, b=offset, scale=scale: f(t, y) + scale * b, context)
        options = {"solver": Dopri5(), "controller": PID(1e-5, 1e-5, norm="joint")}
        solution, _ = differentiated(term, y0, [0.0, 1.0], Backsolve(), **options)
        calls.append(solution.stats.nfe_backward)
    assert calls[0] == calls[1]


@pytest.mark.parametrize("norm", ["joint", "sample"])
def test_the_tolerance_is_relative_to_the_gradients_that_arrive(norm, double):
    term, y0, found, calls = ODETerm(Bent()), torch.randn(3, 4, requires_grad=True), [], []
    for scale in (1.0, 1e-8, 2.0**16):
        options = {"solver": Dopri5(), "controller": PID(1e-5, 1e-5, norm=norm)}
        loss = lambda ys, scale=scale: scale * ys.square().sum()  # noqa: E731
        solution, grads = differentiated(term, y0, [0.0, 0.5, 1.0], Backsolve(), loss=loss, **options)
        found.append([g / scale for g in grads])
        calls.append(solution.stats.nfe_backward)
    assert calls[0] == calls[1] == calls[2]
    assert gap(found[0], found[1]) < 1e-12 and gap(found[0], found[2]) < 1e-12


@pytest.mark.parametrize("ts", [[0.0, 0.2, 0.5], [[0.0, 0.2], [0.0, 0.2, 0.5], [0.5, 0.0]]], ids=["shared", "ragged"])
def test_samples_keep_their_own_clocks_and_data(ts, double):
    """One stiff sample does not make the others step, and rates of samples get their gradients."""
    rates = torch.tensor([1.0, 20.0, 2.0], requires_grad=True)
    y0, term = torch.randn(3, 2, requires_grad=True), Rated(rates)
    options = {"solver": Dopri5(), "controller": PID(1e-8, 1e-8), "more": [rates]}
    _, expected = differentiated(term, y0, ts, Direct(), **options)
    solution, found = differentiated(term, y0, ts, Backsolve(), **options)
    assert gap(expected, found) < 1e-5  # the stiff sample contracts by e⁻⁶ between its outputs
    few, many, _ = solution.stats.accepted.tolist()
    assert many > 2 * few


def test_a_sample_does_not_depend_on_its_batch_mates(double):
    term, y0 = ODETerm(lambda t, y: torch.sin(2 * y) * (1 + t)), torch.randn(4, 2, requires_grad=True)
    options = {"solver": Dopri5(), "controller": PID(1e-4, 1e-4)}
    weights, found = torch.tensor([1.0, 1e3, 1e-3, 1.0]), []
    for rows in (slice(None), slice(1, 3)):
        loss = lambda ys, rows=rows: (ys.square().sum((0, 2)) * weights[rows]).sum()  # noqa: E731
        y = y0[rows].detach().requires_grad_()
        found.append(differentiated(term, y, [0.0, 0.7, 2.0], Backsolve(), loss=loss, **options)[1][0])
    assert torch.equal(found[0][1:3], found[1])


def test_tuples_halves_layers_and_jumps(double):
    y, z = torch.randn(3, 4, requires_grad=True), torch.randn(3, 4, requires_grad=True)
    sharp = {"solver": Dopri5(), "controller": PID(1e-8, 1e-8, norm="joint")}
    cases = [
        (ODETerm(lambda t, s: (s[1], -torch.sin(s[0]))), (y, z), sharp),
        (Partitioned(Bent(), Bent()), (y, z), sharp),
        (Layered([Bent() for _ in range(2)]), y, sharp),
        (Layered([Bent() for _ in range(2)]), y, {"solver": RK4(), "controller": Constant(steps=40)}),
        (ODETerm(lambda t, s: -s * (1 + (torch.as_tensor(t) > 0.7)), jumps=[0.7]), y, sharp),
        (ODETerm(lambda t, s: torch.cos(3 * s) + t), torch.tensor(0.3, requires_grad=True), sharp),
    ]
    for term, y0, options in cases:
        _, expected = differentiated(term, y0, [0.0, 1.0, 2.0], Direct(), **options)
        _, found = differentiated(term, y0, [0.0, 1.0, 2.0], Backsolve(), **options)
        assert gap(expected, found) < 1e-6


def test_a_jump_for_samples_with_clocks_of_their_own(double):
    term, y0 = (
        ODETerm(lambda t, s: -s * (1 + (torch.as_tensor(t) > 0.7)), jumps=[0.7]),
        torch.rand(3, 4, requires_grad=True),
    )
    for controller in (PID(1e-8, 1e-8), Constant(steps=20)):
        options = {"solver": Dopri5(), "controller": controller}
        for ts in ([0.0, 1.0, 2.0], OWN[:3]):
            _, expected = differentiated(term, y0, ts, Direct(), **options)
            _, found = differentiated(term, y0, ts, Backsolve(), **options)
            assert gap(expected, found) < 1e-6


def test_another_solver_and_controller_for_the_way_back(double):
    term, y0 = ODETerm(Bent()), torch.randn(3, 4, requires_grad=True)
    back = Backsolve(Tsit5(), PID(1e-9, 1e-9, norm="joint"))
    for options in (
        {"solver": Kvaerno5(), "controller": PID(1e-8, 1e-8, norm="joint")},
        {"solver": Rodas4(), "controller": PID(1e-8, 1e-8)},
        {"solver": RK4(), "controller": Constant(steps=200)},
        {"solver": Leapfrog(), "controller": Constant(steps=2000)},
    ):
        _, expected = differentiated(term, y0, [0.0, 1.0], Direct(), **options)
        _, found = differentiated(term, y0, [0.0, 1.0], back, **options)
        assert gap(expected, found) < 1e-6


def test_steps_that_are_rejected_are_worth_nothing(double):
    """A kink at 0.4 makes steps back over it fail."""
    field = Linear(-torch.eye(2))
    term = ODETerm(lambda t, y: field(t, y) * (1 + 5 * (torch.as_tensor(t) < 0.4)), context=[field.matrix])
    y0 = torch.rand(3, 2, requires_grad=True)
    for norm in ("joint", "sample"):
        options = {"solver": Dopri5(), "controller": PID(1e-7, 1e-7, norm=norm), "more": [field.matrix]}
        solution, expected = differentiated(term, y0, [0.0, 1.0], Direct(), **options)
        assert (solution.stats.rejected > 0).any()
        _, found = differentiated(term, y0, [0.0, 1.0], Backsolve(), **options)
        assert gap(expected, found) < 1e-5


def test_memory_does_not_grow_with_the_steps():
    field = nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 8))
    term, y0 = ODETerm(lambda t, y: field(y), context=list(field.parameters())), torch.randn(32, 8)

    def memory(steps):
        options = {"solver": RK4(), "controller": Constant(steps=steps), "saveat": SaveAt(final=True)}
        return measured_memory(
            lambda: solve(term, y0, [0.0, 1.0], gradient=Backsolve(), **options).y1.sum(), list(field.parameters())
        )

    few, many = memory(4), memory(64)
    assert many.kept == few.kept and many.peak == few.peak


def test_samples_that_failed_are_left_out(double):
    class Field(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(1, 1)

        def forward(self, t, y):
            rate = self.linear(torch.ones_like(y)).abs() + 1.0
            return torch.where(y > 2.2, torch.full_like(y, math.inf), rate)

    term, y0 = ODETerm(Field()), torch.tensor([[0.1], [2.0], [0.5]], requires_grad=True)
    for controller in (Constant(steps=8), PID(1e-6, 1e-6), PID(1e-6, 1e-6, norm="joint")):
        options = {"solver": Heun(), "controller": controller, "on_failure": Freeze()}
        direct, expected = differentiated(term, y0, [0.0, 0.1, 0.5], Direct(), **options)
        solution, found = differentiated(term, y0, [0.0, 0.1, 0.5], Backsolve(), **options)
        assert [f.samples for f in solution.failures] == [f.samples for f in direct.failures] == [(1,)]
        assert gap(expected, found) < 1e-5


def test_gradients_that_are_not_finite_pass(double):
    """As a scaler of gradients in half precision needs it: no error, and no finite number."""
    term, y0 = ODETerm(Bent()), torch.randn(3, 4, requires_grad=True)
    y1 = solve(term, y0, [0.0, 1.0], solver=Dopri5(), controller=PID(1e-4, 1e-4), gradient=Backsolve()).y1
    (y1.sum() * math.inf).backward()
    assert y0.grad.isnan().all() and term.field.linear.weight.grad.isnan().all()


def test_a_field_that_grows_back_in_time_is_told():
    """Where Euler's method comes back too low, the first field is infinite."""
    term = ODETerm(lambda t, y: torch.where(y < 0.97 * math.exp(t), math.inf, y))
    y0, back = torch.ones(2, 3, requires_grad=True), Backsolve(Euler())
    y1 = solve(term, y0, [0.0, 1.0], solver=RK4(), controller=Constant(steps=10), gradient=back).y1
    with pytest.raises(NonFinite, match=r"on the way back of Backsolve.*samples = \[0, 1\].*Checkpoint"):
        y1.sum().backward()
    term, y0 = ODETerm(lambda t, y: -20 * y), torch.ones(2, 3, requires_grad=True)
    options = {"solver": Dopri5(), "controller": PID(1e-3, 1e-3, norm="joint")}
    y1 = solve(term, y0, [0.0, 2.0], gradient=Backsolve(), saveat=SaveAt(final=True), **options).y1
    with pytest.warns(UserWarning, match=r"differ by .*% from those that were left.*Checkpoint"):
        y1.sum().backward()
    y1 = solve(term, y0, [0.0, 2.0], solver=Dopri5(), controller=PID(1e-5, 1e-5), gradient=Backsolve(), max_steps=40).y1
    with pytest.raises(MaxSteps, match="on the way back"):
        y1.sum().backward()


@pytest.mark.parametrize(
    ("solver", "why"),
    [
        (Kvaerno5(), "solves equations"),
        (Rodas4(), "solves equations"),
        (Leapfrog(), "remembers earlier steps"),
        (AsynchronousLeapfrog(), "remembers earlier steps"),
        (Stormer(), "remembers earlier steps|second-order"),
        (SymplecticEuler(), "integrates Partitioned alone"),
    ],
    ids=repr,
)
def test_solvers_that_cannot_integrate_back_are_refused(solver, why):
    with pytest.raises(InputError, match=rf"{why}.*Backsolve\(solver=Dopri5\(\)\).*Checkpoint"):
        Backsolve().check(solver, Constant(steps=3))


def test_what_does_not_go_together_is_refused(double):
    term, y0 = ODETerm(Bent()), torch.randn(3, 4, requires_grad=True)
    fixed, own = {"solver": RK4(), "controller": Constant(steps=3)}, {"solver": Dopri5(), "controller": PID(1e-3, 1e-3)}
    with pytest.raises(InputError, match="no error estimate for the steps of PID"):
        solve(term, y0, [0.0, 1.0], gradient=Backsolve(RK4()), **own)
    with pytest.raises(InputError, match=r'whose samples share their steps.*norm="joint"'):
        solve(term, y0, [0.0, 1.0], gradient=Backsolve(Dopri5(), PID(1e-3, 1e-3)), **fixed)
    joint = Backsolve(Dopri5(), PID(1e-3, 1e-3, norm="joint"))
    with pytest.raises(InputError, match='times of each sample; use norm="sample"'):
        solve(term, y0, [[0.0, 1.0], [0.0, 2.0], [1.0, 2.0]], gradient=joint, **own)
    learnt = LinearTwoStep(0.5, learn=True)
    with pytest.raises(InputError, match=r"coefficients that .* learns would get no gradient"):
        solve(term, y0, [0.0, 1.0], solver=learnt, controller=Constant(steps=3), gradient=Backsolve(RK4()))


def test_it_is_once_differentiable(double):
    term, y0 = ODETerm(Bent()), torch.randn(3, 4, requires_grad=True)
    y1 = solve(term, y0, [0.0, 1.0], solver=RK4(), controller=Constant(steps=3), gradient=Backsolve()).y1
    with pytest.raises(InputError, match=r"first derivatives alone.*Direct or Checkpoint"):
        torch.autograd.grad(y1.sum(), y0, create_graph=True)


def test_it_is_a_value():
    assert Backsolve() == Backsolve(None) and hash(Backsolve()) == hash(Backsolve())
    assert isinstance(pickle.loads(pickle.dumps(Backsolve(Dopri5()))).solver, Dopri5)
