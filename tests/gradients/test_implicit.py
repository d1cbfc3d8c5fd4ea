"""The gradient of a steady state is that of the equation it solves, however it was reached."""

import pickle

import pytest
import torch
from rules import differentiated, gap
from torch import nn

from deqlight import Layered, ODETerm, SaveAt, solve
from deqlight.controllers import PID, Constant
from deqlight.errors import InputError, NoConvergence
from deqlight.gradients import Checkpoint, Direct, Implicit
from deqlight.policies import Freeze
from deqlight.solvers import Dopri5, Heun, ImplicitEuler, Kvaerno3
from deqlight.terms.base import nested

TIGHT = Implicit(rtol=1e-9, atol=1e-9)
LONG = {"solver": Dopri5(), "controller": PID(1e-10, 1e-12, norm="joint")}
FINAL = SaveAt(final=True)


class Net(nn.Module):
    """tanh(W y + U x), a layer of a deep equilibrium; W contracts."""

    def __init__(self):
        super().__init__()
        self.inside, self.input = nn.Linear(6, 6), nn.Linear(3, 6)
        with torch.no_grad():
            self.inside.weight.mul_(0.5)

    def forward(self, x, y):
        return torch.tanh(self.inside(y) + self.input(x))


class Equilibrium(ODETerm):
    """dy/dt = net(x, y) − y, with an input for each sample."""

    def __init__(self, net, whole, x=None, hook=None):
        x = whole if x is None else x
        super().__init__(lambda t, y: net(x, y) - y, context=[whole])
        self.net, self.whole, self.x, self.hook = net, whole, x, hook

    def rows(self, index):
        return Equilibrium(self.net, self.whole, self.x[index], self.hook)

    def wrap(self, hook):
        return Equilibrium(self.net, self.whole, self.x, nested(hook, self.hook))


def layer(batch=4):
    x = torch.randn(batch, 3, requires_grad=True)
    return Equilibrium(Net(), x), torch.zeros(batch, 6, requires_grad=True), x


@pytest.mark.parametrize("saveat", [FINAL, None], ids=["final", "both"])
@pytest.mark.parametrize("dense", [64, 0], ids=["factorised", "GMRES"])
def test_equals_going_back_through_a_long_solve(dense, saveat, double):
    term, y0, x = layer()
    gradient, options = Implicit(1e-9, 1e-9, dense), {**LONG, "saveat": saveat, "more": [x]}
    loss = lambda ys: (ys[-1] * torch.arange(6.0)).square().sum()  # noqa: E731
    direct, expected = differentiated(term, y0, [0.0, 60.0], Direct(), loss=loss, **options)
    solution, found = differentiated(term, y0, [0.0, 60.0], gradient, loss=loss, **options)
    assert gap(expected, found) < 1e-8
    assert torch.allclose(solution.ys, direct.ys, rtol=0, atol=1e-12)
    assert (found[0] == 0).all()  # of the start
    assert (solution.stats.nfe == direct.stats.nfe + 1).all() and solution.stats.nfe_backward == 0


def test_equals_the_closed_form(double):
    """A y + b = 0: dy = −A⁻¹ (dA y + db)."""
    a = nn.Parameter(-torch.eye(4) + 0.2 * torch.randn(4, 4))
    b, weight = nn.Parameter(torch.randn(4)), torch.randn(2, 4)
    term = ODETerm(lambda t, y: y @ a.T + b, context=[a, b])
    y1 = solve(term, torch.randn(2, 4), [0.0, 80.0], gradient=TIGHT, saveat=FINAL, **LONG).y1
    found = torch.autograd.grad((y1 * weight).sum(), [a, b])
    expected = torch.autograd.grad((torch.linalg.solve(a, -b).expand(2, 4) * weight).sum(), [a, b])
    assert gap(expected, found) < 1e-9


def test_the_first_output_is_the_start_itself(double):
    term, y0, _ = layer()
    ys = solve(term, y0, [0.0, 60.0], gradient=TIGHT, **LONG).ys
    (found,) = torch.autograd.grad((3 * ys[0] + ys[1]).sum(), y0)
    assert (found == 3).all()


def test_tuples_of_shapes_and_dtypes_and_states_without_a_batch(double):
    a, b = nn.Parameter(torch.tensor(0.5)), nn.Parameter(torch.tensor(2.0))
    term = ODETerm(lambda t, y: (torch.cos(a * y[0]) - y[0], b - y[1] * (1 + y[0].sum(-1)[:, None])), context=[a, b])
    y0 = torch.rand(3, 2), torch.rand(3, 1)
    one = ODETerm(lambda t, y: torch.cos(a * y) - y, context=[a])
    for term_, state in ((term, y0), (one, torch.tensor(0.2))):
        found = []
        for gradient in (Direct(), TIGHT):
            y1 = solve(term_, state, [0.0, 80.0], gradient=gradient, saveat=FINAL, **LONG).y1
            loss = sum(leaf.square().sum() for leaf in (y1 if isinstance(y1, tuple) else (y1,)))
            found.append(torch.autograd.grad(loss, [a, b], allow_unused=True, materialize_grads=True))
        assert gap(*found) < 1e-7  # as far as the states are from rest


@pytest.mark.parametrize(
    "ts", [[0.0, 60.0], [[0.0, 50.0], [0.0, 60.0], [1.0, 70.0], [0.0, 55.0]]], ids=["shared", "own"]
)
def test_samples_with_clocks_of_their_own(ts, double):
    term, y0, x = layer()
    found = []
    for gradient in (Direct(), TIGHT):
        options = {"solver": Dopri5(), "controller": PID(1e-10, 1e-12), "gradient": gradient}
        y1 = solve(term, y0, ts, **options).y1
        found.append(torch.autograd.grad(y1.square().sum(), [x, *term.parameters()]))
    assert gap(*found) < 1e-8


def test_any_solver_may_lead_there(double):
    term, y0, x = layer()
    expected = None
    for solver, steps in ((Heun(), 80), (ImplicitEuler(), 20), (Kvaerno3(), 12)):
        options = {"solver": solver, "controller": Constant(steps=steps), "saveat": FINAL}
        y1 = solve(term, y0, [0.0, 60.0], gradient=Implicit(1e-4, 1e-5), **options).y1
        found = torch.autograd.grad(y1.square().sum(), [x, *term.parameters()])
        expected = expected or found
        assert gap(expected, found) < 1e-3  # as steady as was asked


def test_a_state_that_still_moves_is_refused(double):
    term, y0, _ = layer()
    with pytest.raises(NoConvergence, match=r"not steady.* times atol \+ rtol \|y1\|.*samples.*Integrate for longer"):
        solve(term, y0, [0.0, 1.0], gradient=Implicit(), saveat=FINAL, **LONG)
    with torch.no_grad(), pytest.raises(NoConvergence, match="not steady"):
        solve(term, y0, [0.0, 1.0], gradient=Implicit(), saveat=FINAL, **LONG)
    assert solve(term, y0, [0.0, 60.0], gradient=Implicit(), saveat=FINAL, **LONG).y1.requires_grad


@pytest.mark.parametrize("controller", [PID(1e-8, 1e-10), PID(1e-8, 1e-10, norm="joint")], ids=["own", "joint"])
def test_samples_that_do_not_come_to_rest_can_be_frozen(controller, double):
    rate = nn.Parameter(torch.tensor(1.0))
    term = ODETerm(lambda t, y: torch.where(y > 5, torch.ones_like(y), rate - y), context=[rate])
    y0 = torch.tensor([[0.0], [6.0], [0.5]], requires_grad=True)
    options = {"solver": Dopri5(), "controller": controller, "gradient": Implicit(), "saveat": FINAL}
    solution = solve(term, y0, [0.0, 40.0], on_failure=Freeze(), **options)
    assert [f.samples for f in solution.failures] == [(1,)] and solution.y1[1].isnan().all()
    solution.y1[[0, 2]].sum().backward()
    assert rate.grad == pytest.approx(2.0) and (y0.grad[[0, 2]] == 0).all()


def test_equations_without_a_solution_are_told(double):
    """At a double root ∂f/∂y vanishes: no gradient, factorised or not; GMRES says so."""
    shift = nn.Parameter(torch.zeros(1))
    term = ODETerm(lambda t, y: shift - (y - y.mean(1, keepdim=True)), context=[shift])
    y0 = torch.ones(2, 3)
    y1 = solve(term, y0, [0.0, 1.0], solver=Heun(), gradient=Implicit(dense=0), saveat=FINAL).y1
    with pytest.raises(NoConvergence, match=r"gradient were not solved.*samples = \[0, 1\].*`dense` of Implicit"):
        y1.sum().backward()


def test_unused_and_frozen_parameters(double):
    term, y0, _ = layer()
    term.net.spare = nn.Linear(2, 2)
    term.net.input.weight.requires_grad_(False)
    solve(term, y0, [0.0, 60.0], gradient=TIGHT, saveat=FINAL, **LONG).y1.sum().backward()
    assert term.net.spare.weight.grad is None and term.net.input.weight.grad is None
    assert term.net.inside.weight.grad.abs().sum() > 0 and (y0.grad == 0).all()


def test_it_is_once_differentiable(double):
    term, y0, x = layer()
    y1 = solve(term, y0, [0.0, 60.0], gradient=TIGHT, saveat=FINAL, **LONG).y1
    with pytest.raises(InputError, match=r"first derivatives alone.*Direct or Checkpoint"):
        torch.autograd.grad(y1.sum(), x, create_graph=True)


@pytest.mark.parametrize("ts", [[0.0, 1.0, 60.0], [[0.0, 60.0], [0.0, 1.0, 60.0], [0.0, 60.0], [0.0, 60.0]]])
def test_outputs_before_the_last_are_refused(ts, double):
    term, y0, _ = layer()
    options = {"solver": Dopri5(), "controller": PID(1e-6, 1e-6)}
    with pytest.raises(InputError, match=r"got 3 times.*SaveAt\(final=True\)"):
        solve(term, y0, ts, gradient=TIGHT, **options)
    assert solve(term, y0, ts, gradient=Implicit(), saveat=FINAL, **options).y1.shape == (4, 6)


def test_terms_that_cannot_be_steady_are_refused():
    y0 = torch.zeros(4, 3)
    with pytest.raises(InputError, match=r"term Layered; it needs one field that comes to rest.*Checkpoint"):
        solve(Layered([nn.Identity()]), y0, [0, 1], solver=Heun(), gradient=Implicit())
    mixing = nn.BatchNorm1d(3)
    term = ODETerm(lambda t, y: mixing(y) - y)
    term.norm = mixing
    with pytest.raises(InputError, match=r"BatchNorm in training mode, which mixes samples"):
        solve(term, y0, [0, 1], solver=Heun(), gradient=Implicit())


@pytest.mark.parametrize("wrong", [{"rtol": -1.0}, {"atol": float("nan")}, {"rtol": 0.0, "atol": 0.0}, {"dense": -1}])
def test_settings_that_cannot_be_meant_are_refused(wrong):
    with pytest.raises(InputError, match="Implicit got"):
        Implicit(**wrong)


def test_it_is_a_value():
    assert Implicit() == Implicit(1e-3) != Implicit(1e-6) and hash(Implicit()) == hash(Implicit())
    assert pickle.loads(pickle.dumps(Implicit(1e-6))) == Implicit(1e-6)
    assert Checkpoint() != Implicit()
