"""Symmetric layers: exact adjoints, Jacobians, heat flows that shrink, Hamiltonians that are kept, layers undone."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.func import jacrev
from torch.nn import functional as F

from deqlight import Layered, ODETerm, Partitioned, solve
from deqlight.controllers import Constant
from deqlight.errors import InputError
from deqlight.fields import Symmetric
from deqlight.gradients import Direct, Reversible
from deqlight.solvers import Euler, Stormer, SymplecticEuler, Verlet

SIZE = (2, 4, 4)
NUMBERS = 32


def jacobian(function, y):
    """Of one sample: `(numbers, numbers)`."""
    return jacrev(lambda flat: function(flat.reshape(1, *SIZE)).flatten())(y.flatten())


def norm(field):
    """‖K‖, the largest factor by which the convolution makes an image longer."""
    return float(torch.linalg.matrix_norm(jacobian(field.there, torch.zeros(SIZE)), 2))


def test_the_transposed_convolution_is_the_adjoint(double):
    field = Symmetric(3, width=5)
    x, y = torch.randn(2, 3, 6, 7), torch.randn(2, 5, 6, 7)
    with torch.no_grad():
        assert float((field.there(x) * y).sum()) == pytest.approx(float((x * field.back(y)).sum()), rel=1e-13)


@pytest.mark.parametrize("activation", ["relu", "tanh", "softplus"])
@pytest.mark.parametrize("normed", [None, nn.BatchNorm2d])
def test_its_jacobian_is_symmetric_and_nowhere_positive(activation, normed, double):
    field = Symmetric(2, activation=activation, norm=normed, width=3)
    nn.init.normal_(field.bias)
    if normed:
        field(0.0, torch.randn(64, *SIZE))  # statistics that are not those at the start
    field.eval()
    j = jacobian(lambda y: field(0.0, y), torch.randn(SIZE))
    assert (j - j.T).abs().max() < 1e-14
    assert torch.linalg.eigvalsh(j).max() < 1e-12 and torch.linalg.eigvalsh(j).min() < -0.1


def test_a_heat_flow_shrinks_below_its_bound_and_grows_above(double):
    """h ‖K‖² max σ' = 2 is the bound; along the longest direction, and for small images, it is sharp."""
    field = Symmetric(2, activation="tanh")
    for share, shrinks in ((0.99, True), (1.01, False)):
        field.scale = share * 2.0 / norm(field) ** 2
        y0 = torch.linalg.svd(jacobian(field.there, torch.zeros(SIZE))).Vh[0].reshape(1, *SIZE)
        for size in (1e-3, 1.0, 30.0) if shrinks else (1e-3,):
            y1 = solve(ODETerm(field), size * y0, [0.0, 1.0], solver=Euler()).y1
            assert (y1.norm() < size * y0.norm()) == shrinks
        if shrinks:  # and so does the distance of any two images
            a, b = torch.randn(2, 16, *SIZE)
            ends = [solve(ODETerm(field), y, range(6), solver=Euler()).y1 for y in (a, b)]
            assert ((ends[0] - ends[1]).flatten(1).norm(dim=1) < (a - b).flatten(1).norm(dim=1)).all()


def hamiltonian(h, layers, activation="tanh"):
    """Layers of their own, and halves of two channels."""
    torch.manual_seed(3)
    return Partitioned(
        Layered(Symmetric(2, -h, activation) for _ in range(layers)),
        Layered(Symmetric(2, h, activation) for _ in range(layers)),
    )


def test_a_hamiltonian_step_is_symplectic(double):
    def step(flat):
        halves = tuple(half.reshape(1, *SIZE) for half in flat.chunk(2))
        q, p = solve(hamiltonian(0.5, 1), halves, [0.0, 1.0], solver=SymplecticEuler()).y1
        return torch.cat([q.flatten(), p.flatten()])

    j = jacrev(step)(torch.randn(2 * NUMBERS))
    one, zero = torch.eye(NUMBERS), torch.zeros(NUMBERS, NUMBERS)
    omega = torch.cat([torch.cat([zero, one], 1), torch.cat([-one, zero], 1)])
    torch.testing.assert_close(j.T @ omega @ j, omega, rtol=0, atol=1e-12)
    assert (j - torch.eye(2 * NUMBERS)).abs().max() > 0.1


LONG = 100.0


def energy(term, state):
    """H; log cosh is the integral of tanh."""
    q, p = state
    total = 0.0
    for part, y in ((term.velocity.layers[0].field, p), (term.force.layers[0].field, q)):
        inner = part.there(y) + part.bias[:, None, None]
        total += float((inner.abs() + F.softplus(-2 * inner.abs()) - torch.log(torch.tensor(2.0))).sum())
    return total


@pytest.mark.parametrize(("solver", "order"), [(SymplecticEuler(), 1), (Verlet(), 2)], ids=repr)
def test_the_energy_is_kept(solver, order, double):
    """For many periods the error stays where it is, and goes with the order of the step; that of Euler grows."""
    torch.manual_seed(3)
    velocity, force = Symmetric(2, -1.0, "tanh"), Symmetric(2, 1.0, "tanh")
    term, start = Partitioned(ODETerm(velocity), ODETerm(force)), (torch.randn(1, *SIZE), torch.randn(1, *SIZE))
    layered = Partitioned(Layered([velocity]), Layered([force]))

    def errors(method, steps):
        ts = [k * LONG / 200 for k in range(201)]
        with torch.no_grad():
            path = solve(term, start, ts, solver=method, controller=Constant(steps=steps)).ys
        return torch.tensor([energy(layered, state) for state in zip(*path, strict=True)]) - energy(layered, start)

    coarse, fine = errors(solver, 10).abs(), errors(solver, 20).abs()
    assert coarse[100:].max() < 1.5 * coarse[:100].max()
    assert coarse.max() / fine.max() == pytest.approx(2**order, rel=0.25)
    assert errors(Euler(), 10)[-1] > 10 * coarse.max()


DEEP = 200


@pytest.mark.parametrize("kind", ["hamiltonian", "hyperbolic"])
def test_two_hundred_layers_are_undone(kind, double):
    """To rounding, and so the gradients are those of autograd."""
    torch.manual_seed(0)
    if kind == "hamiltonian":
        term, solver = hamiltonian(0.05, DEEP, "relu"), SymplecticEuler()
        y0 = tuple(torch.randn(3, *SIZE, requires_grad=True) for _ in range(2))
    else:
        term, solver = Layered(Symmetric(2, (10 / DEEP) ** 2) for _ in range(DEEP)), Stormer()
        y0 = (torch.randn(3, *SIZE, requires_grad=True),)
    grads = []
    for rule in (Direct(), Reversible()):
        given = y0 if len(y0) > 1 else y0[0]
        y1 = solve(term, given, range(DEEP + 1), solver=solver, gradient=rule).y1
        loss = sum(leaf.square().sum() for leaf in (y1 if isinstance(y1, tuple) else (y1,)))
        grads.append(torch.autograd.grad(loss, [*y0, *term.parameters()]))
    for a, b in zip(*grads, strict=True):
        assert (a - b).abs().max() <= 1e-13 * DEEP * a.abs().max()


def test_what_makes_no_sense_is_refused():
    with pytest.raises(InputError, match="relu, tanh, softplus"):
        Symmetric(2, activation="sin")
    with pytest.raises(InputError, match="scale=0"):
        Symmetric(2, scale=0.0)
