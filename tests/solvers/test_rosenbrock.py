"""Rodas4: linearly implicit, with the derivative in time, and its gradient through the Jacobian."""

import pytest
import torch
from torch import nn

from deqlight import Layered, ODETerm, Partitioned, solve
from deqlight.controllers import PID, Constant
from deqlight.errors import InputError
from deqlight.solvers import Rodas4

ROUNDED = 1e-12
"""What some hundred operations leave of a number of size one."""

DIFFERENCED = 1e-8
"""Fourth-order differences over 3e-4: truncated at 1e-12; rounded at 1e-9, for differences in time lose four digits."""

KRYLOV = 1e-9
"""GMRES stops at eps^0.7 = 1e-11 of the right-hand side, six times a step."""

BOTH = pytest.mark.parametrize("dense", [64, 0], ids=["dense", "Krylov"])

pytestmark = pytest.mark.usefixtures("double")


class Field(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight, self.bias = nn.Parameter(0.6 * torch.randn(3, 3)), nn.Parameter(torch.randn(3))

    def forward(self, t, y):
        return torch.tanh(y @ self.weight + self.bias) * (1.5 + torch.cos(torch.as_tensor(t))) - y


@BOTH
def test_cubics_in_time_are_integrated_exactly(dense):
    """A quadrature of order 4, which uses the derivative in time at the start."""
    term = ODETerm(lambda t, y: 0 * y + (1.0 + t * (-2.0 + t * (3.0 + 4.0 * t))))
    y1 = solve(term, torch.zeros(2, 1), [0.0, 2.0], solver=Rodas4(dense=dense), controller=Constant(steps=3)).y1
    # the difference truncates t³ at (eps^0.2)² h³ · 24/3 = 1e-6, of which sums leave a part
    assert torch.allclose(y1, torch.full((2, 1), 2.0 - 4.0 + 8.0 + 16.0), rtol=1e-7)


def test_the_stability_function_is_that_of_the_method():
    """R(z) of a stiffly accurate Rosenbrock method with γ = 1/4 and six stages: exp(z) + O(z⁵), and 0 at infinity."""
    for z, bound in ((-0.1, 2e-7), (-0.2, 4e-6)):
        y1 = solve(ODETerm(lambda t, y, z=z: z * y), torch.ones(1, 1), [0.0, 1.0], solver=Rodas4()).y1
        assert abs(float(y1) - float(torch.exp(torch.tensor(z)))) < bound
    y1 = solve(ODETerm(lambda t, y: -1e8 * y), torch.ones(1, 1), [0.0, 1.0], solver=Rodas4()).y1
    assert abs(float(y1)) < 1e-6


def test_all_evaluations_lie_in_the_step():
    """The field may jump where a step begins: differences in time must not look back."""
    seen = []

    def field(t, y):
        seen.append(t)
        return -y * (2.0 if t >= 1.0 else 1.0)

    solve(ODETerm(field), torch.ones(1, 1), [1.0, 2.0], solver=Rodas4())
    assert len(seen) == 8 and min(seen) == 1.0 and max(seen) == 2.0
    seen.clear()
    solve(ODETerm(field), torch.ones(1, 1), [2.0, 1.0], solver=Rodas4())
    assert min(seen) == 1.0 and max(seen) == 2.0


def test_products_alone_give_the_same_solution():
    y0, term = torch.randn(5, 3), ODETerm(Field())
    with torch.no_grad():
        factorised, alone = (solve(term, y0, [0.0, 0.5, 1.0], solver=Rodas4(dense=d)) for d in (64, 0))
    assert torch.allclose(factorised.y1, alone.y1, rtol=KRYLOV, atol=KRYLOV)
    assert factorised.stats.nfe.tolist() == alone.stats.nfe.tolist() == [16] * 5


@BOTH
def test_gradients_go_through_the_jacobian(dense):
    field, y0, way = Field(), torch.randn(4, 3), torch.randn(4, 3)
    params = list(field.parameters())
    starts, ways = [p.detach().clone() for p in params], [torch.randn_like(p) for p in params]

    def loss(shift, grad=False):
        with torch.no_grad():
            for p, start, along in zip(params, starts, ways, strict=True):
                p.copy_(start + shift * along)
        state = (y0 + shift * way).requires_grad_(grad)
        ts = torch.tensor([0.0 - 0.5 * shift, 0.4, 1.0 + shift], requires_grad=grad)
        y1 = solve(ODETerm(field), state, ts if grad else ts.tolist(), solver=Rodas4(dense=dense)).y1
        return (y1 * torch.linspace(0.5, 1.5, 12).reshape(4, 3)).sin().sum(), [state, ts, *params]

    value, at = loss(0.0, grad=True)
    grads = torch.autograd.grad(value, at)
    along = [way, torch.tensor([-0.5, 0.0, 1.0]), *ways]
    exact = sum(float((g * v).sum()) for g, v in zip(grads, along, strict=True))
    h = 3e-4
    with torch.no_grad():
        f = {k: float(loss(k * h)[0]) for k in (-2, -1, 1, 2)}
    difference = (8 * (f[1] - f[-1]) - (f[2] - f[-2])) / (12 * h)
    assert abs(difference - exact) < DIFFERENCED * (1 + abs(exact))
    value, at = loss(0.0, grad=True)
    with pytest.raises(InputError, match="first derivatives alone"):
        torch.autograd.grad(value, at, create_graph=True)


def test_measured_steps_of_tuples_networks_and_halves():
    pid = PID(1e-8, 1e-8)
    pair = torch.rand(3, 2), torch.rand(3, 2, 2)
    ys = solve(ODETerm(lambda t, y: (-y[0], -2 * y[1])), pair, [0.0, 1.0], solver=Rodas4(), controller=pid).y1
    assert torch.allclose(ys[0], pair[0] * torch.exp(torch.tensor(-1.0)), rtol=1e-6)
    assert torch.allclose(ys[1], pair[1] * torch.exp(torch.tensor(-2.0)), rtol=1e-6)
    halves = Partitioned(lambda t, p: p, lambda t, q: -q)
    turned = solve(halves, (torch.ones(1, 1), torch.zeros(1, 1)), [0.0, 1.0], solver=Rodas4(), controller=pid)
    assert torch.allclose(turned.y1[0], torch.cos(torch.ones(1, 1)), rtol=1e-6)
    assert bool((turned.stats.nfe % 2 == 0).all())
    blocks = [nn.Linear(4, 4) for _ in range(2)]
    network = Layered([lambda t, y, b=b: torch.tanh(b(y)) for b in blocks])
    solve(network, torch.randn(3, 4), [0.0, 1.0, 2.0], solver=Rodas4()).y1.sum().backward()
    assert all(bool(b.weight.grad.abs().sum() > 0) for b in blocks)


def test_a_singular_matrix_shows():
    """1 − γhJ = 0 at J = 4/h."""
    from deqlight.errors import SolverFailure

    for dense in (64, 0):
        with pytest.raises(SolverFailure):
            solve(ODETerm(lambda t, y: 4.0 * y), torch.ones(1, 1), [0.0, 1.0], solver=Rodas4(dense=dense))
