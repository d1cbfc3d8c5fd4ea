"""Newton's method sample by sample, its linear algebra, and gradients by the implicit function theorem."""

import math

import pytest
import torch

from deqlight.errors import InputError, NoConvergence
from deqlight.linear import Factorised, Krylov, Linearisation, gmres
from deqlight.rootfind import Newton, Search, implicit

EPS = torch.finfo(torch.float64).eps

ROUNDED = 1e-13
"""What some hundred operations leave of a number of size one."""

SOLVED = 1e-9
"""GMRES stops at eps^0.7 = 1e-11 of the right-hand side, where conditions are below 100."""

BOTH = pytest.mark.parametrize("dense", [64, 0], ids=["dense", "Krylov"])

pytestmark = pytest.mark.usefixtures("double")


def search(g, batch, n=1, dense=64, eps=EPS, a=1.0, dtype=torch.float64, **options):
    """The root of u = g(a u) for each sample, from zero, and the rows of each call."""
    rows = []

    def counted(z, index):
        rows.append(len(z))
        return g(z, torch.arange(batch) if index is None else index)

    newton = Newton(dense=dense, **options)
    zero = torch.zeros(batch, n, dtype=dtype)
    found = Search(newton, counted, torch.full((1, 1), a, dtype=dtype), eps)
    tolerance = None if newton.rtol is None else newton.tolerance(torch.as_tensor(newton.atol), zero)
    return found.run(zero, tolerance, zero[:, None]), rows


def pull(strength):
    """z ↦ cos(s z)/(1 + s) + …: a contraction for small s, not for large; one root each."""
    return lambda z, index: torch.exp(-strength[index, None, None] * z) - strength[index, None, None] * z**3


@BOTH
def test_each_sample_finds_its_root_by_itself(dense):
    strength = torch.logspace(-3, 3, 13)
    root, rows = search(pull(strength), 13, dense=dense)
    assert bool(root.converged.all())
    gap = root.u - pull(strength)(root.u, torch.arange(13))
    assert float((gap / (1 + strength[:, None, None] * root.u.abs())).abs().max()) < ROUNDED
    assert sum(rows) == int(root.evaluations.sum()) < 13 * int(root.evaluations.max())  # those that are done leave
    for i in range(13):
        alone, _ = search(lambda z, index, i=i: pull(strength[i : i + 1])(z, index), 1, dense=dense)
        assert alone.evaluations[0] == root.evaluations[i]
        assert torch.allclose(alone.u[0], root.u[i], rtol=ROUNDED, atol=0)


def test_a_linear_equation_takes_two_evaluations():
    matrix, shift = torch.randn(5, 7, 7), torch.randn(5, 1, 7)
    root, _ = search(lambda z, index: torch.einsum("bij,bsj->bsi", matrix[index], z) + shift[index], 5, 7)
    exact = torch.linalg.solve(torch.eye(7) - matrix, shift[:, 0])
    assert torch.allclose(root.u[:, 0], exact, rtol=1e-11) and root.evaluations.tolist() == [2] * 5


@BOTH
def test_the_root_of_small_numbers_is_as_accurate_as_that_of_large_ones(dense):
    size = torch.tensor([1.0, 1e-30, 1e30])
    root, _ = search(lambda z, index: size[index, None, None] * torch.cos(z / size[index, None, None]), 3, dense=dense)
    dottie = 0.7390851332151606
    assert torch.allclose(root.u.flatten() / size, torch.full((3,), dottie), rtol=ROUNDED)


@BOTH
def test_damping_reaches_a_root_that_whole_steps_overshoot(dense):
    """r = arctan(u − 20), from 0: whole Newton steps alternate and grow."""
    root, _ = search(lambda z, index: z - torch.atan(z - 20.0), 1, dense=dense)
    assert bool(root.converged[0]) and abs(float(root.u) - 20.0) < ROUNDED * 20


@BOTH
def test_a_sample_without_a_root_and_one_of_nan_leave_the_others_alone(dense):
    """u = u² + c has a root for c <= 1/4."""
    c = torch.tensor([0.1, 1.0, math.nan, 0.2])
    root, _ = search(lambda z, index: z**2 + c[index, None, None], 4, dense=dense, max_iterations=30)
    assert root.converged.tolist() == [True, False, False, True]
    exact = (1 - torch.sqrt(1 - 4 * c[[0, 3]])) / 2
    assert torch.allclose(root.u.flatten()[[0, 3]], exact, rtol=ROUNDED)
    assert bool(root.u[2].isnan().all()) and root.evaluations[1] == 30 and root.evaluations[2] == 1


def test_a_guess_outside_the_domain_is_dropped():
    newton, zero = Newton(), torch.ones(1, 1, 1)
    found = Search(newton, lambda z, index: torch.sqrt(z + 2), torch.ones(1, 1), EPS)
    root = found.run(torch.zeros(1, 1), None, zero, guess=zero * -50.0)
    assert bool(root.converged[0]) and abs(float(root.u) - 2.0) < ROUNDED


def test_a_tolerance_ends_the_iteration_early_and_is_kept():
    strength = torch.logspace(-2, 2, 9)
    exact, _ = search(pull(strength), 9)
    last = exact.evaluations
    for rtol in (1e-9, 1e-6, 1e-3):
        root, _ = search(pull(strength), 9, rtol=rtol, atol=rtol)
        assert float(((root.u - exact.u) / (rtol + rtol * exact.u.abs())).abs().max()) < 0.01
        assert int(root.evaluations.sum()) < int(last.sum())
        last = root.evaluations


def test_float32_ends_at_its_own_rounding():
    strength = torch.logspace(-3, 3, 7)
    exact, _ = search(pull(strength), 7)
    single = strength.float()
    root, _ = search(pull(single), 7, eps=torch.finfo(torch.float32).eps, dtype=torch.float32)
    assert bool(root.converged.all()) and torch.allclose(root.u.double(), exact.u, rtol=1e-5)


def test_no_samples_no_evaluations():
    root, rows = search(lambda z, index: z, 0)
    assert root.u.shape == (0, 1, 1) and sum(rows) == 0


@pytest.mark.parametrize("options", [{"dense": -1}, {"max_iterations": 0}])
def test_senseless_numbers_are_refused(options):
    with pytest.raises(InputError, match="needs dense >= 0 and max_iterations >= 1"):
        Newton(**options)


@BOTH
def test_gradients_are_those_of_the_implicit_function(dense):
    """u = a tanh(W u + b), coupled: du = (1 − D W)⁻¹ D db with D = a diag(1 − tanh²)."""
    weight, bias = 0.4 * torch.randn(4, 4), torch.randn(3, 4, requires_grad=True)
    a = torch.tensor([[0.7]])

    def g(z, index):
        return torch.tanh(z @ weight.T + (bias if index is None else bias[index])[:, None])

    zero = torch.zeros(3, 4)
    newton = Newton(dense=dense)
    root = Search(newton, g, a, EPS).run(zero, None, zero[:, None])
    assert root.differentiable
    u, _ = implicit(newton, g, zero, a, root, EPS)
    slope = 1 - root.u[:, 0] ** 2
    exact = torch.linalg.solve(torch.eye(4) - slope[:, :, None] * 0.7 * weight, torch.diag_embed(slope))
    cotangent = torch.randn(3, 4)
    (grad,) = torch.autograd.grad((u[:, 0] * cotangent).sum(), bias, create_graph=False, retain_graph=True)
    assert torch.allclose(grad, torch.einsum("bij,bi->bj", exact, cotangent), rtol=SOLVED, atol=SOLVED)
    assert torch.allclose(u, root.u, rtol=ROUNDED)
    with pytest.raises(InputError, match="first derivatives alone"):
        torch.autograd.grad(u.sum(), bias, create_graph=True)


def test_samples_without_a_root_stay_out_of_the_graph():
    c = torch.tensor([0.1, 1.0, math.nan], requires_grad=True)
    newton, zero, one = Newton(max_iterations=20), torch.zeros(3, 1), torch.ones(1, 1)
    g = lambda z, index: z**2 + (c if index is None else c[index])[:, None, None]  # noqa: E731
    u, _ = implicit(newton, g, zero, one, Search(newton, g, one, EPS).run(zero, None, zero[:, None]), EPS)
    (grad,) = torch.autograd.grad(u[0].sum(), c)
    assert grad.tolist() == pytest.approx([1 / math.sqrt(1 - 0.4), 0.0, 0.0], rel=1e-12)


def test_what_needs_no_gradient_gets_no_graph():
    g = lambda z, index: torch.cos(z)  # noqa: E731
    zero, one = torch.zeros(1, 1), torch.ones(1, 1)
    assert not Search(Newton(), g, one, EPS).run(zero, None, zero[:, None]).differentiable


def linearised(g, z):
    z = z.requires_grad_()
    return Linearisation(z, g(z))


def test_jacobians_and_products_with_them():
    matrix = torch.randn(2, 3, 4, 4)
    at = linearised(lambda z: torch.einsum("bsij,bsj->bsi", matrix, z**2), torch.randn(2, 3, 4))
    jacobian = 2 * matrix * at.z.detach()[:, :, None]
    v = torch.randn(2, 3, 4)
    assert torch.allclose(at.jacobians(), jacobian)
    assert torch.allclose(at.pushed(v), torch.einsum("bsij,bsj->bsi", jacobian, v))
    assert torch.allclose(at.pulled(v), torch.einsum("bsij,bsi->bsj", jacobian, v))


@pytest.mark.parametrize(
    "g", [lambda z: torch.ones_like(z), lambda z: 3 * z, lambda z: 0 * z + 1], ids=["constant", "linear", "flat"]
)
def test_maps_that_are_constant_or_linear(g):
    at, v = linearised(g, torch.randn(2, 1, 3)), torch.randn(2, 1, 3)
    slope = float(at.jacobians()[0, 0, 0, 0])
    assert torch.allclose(at.pushed(v), slope * v) and torch.allclose(at.pulled(v), slope * v)


def test_both_inverses_and_their_transposes():
    matrix, a = torch.randn(3, 2, 4, 4), torch.randn(2, 2) / 3
    at = linearised(lambda z: torch.einsum("bsij,bsj->bsi", matrix, z), torch.randn(3, 2, 4))
    whole = torch.eye(8) - torch.einsum("ij,bikl->bikjl", a, matrix).reshape(3, 8, 8)
    r = torch.randn(3, 2, 4)
    for inverse in (Factorised.of(at.jacobians(), a), Krylov(at, a, 1e-14)):
        for found, of in ((inverse.solve(r), whole), (inverse.transposed(r), whole.transpose(1, 2))):
            assert torch.allclose(found.reshape(3, 8), torch.linalg.solve(of, r.reshape(3, 8)), rtol=1e-10)


def test_gmres_solves_each_row_by_itself():
    """Rows that need few columns, many, and more than one basis."""
    n = 90
    spread = torch.tensor([0.0, 1.0, 30.0, 300.0])
    diagonal = 1 + spread[:, None] * torch.linspace(0, 1, n)
    turn = torch.linalg.qr(torch.randn(4, n, n))[0]
    matrix = turn @ torch.diag_embed(diagonal) @ turn.transpose(1, 2)
    b = torch.randn(4, n)
    x, left = gmres(lambda w: torch.einsum("bij,bj->bi", matrix, w), b, 1e-12)
    assert bool((left < 1e-12).all()) and torch.allclose(x, torch.linalg.solve(matrix, b), rtol=1e-8, atol=1e-11)
    for i in range(4):
        alone, _ = gmres(lambda w, i=i: w @ matrix[i].T, b[i : i + 1], 1e-12)
        assert torch.allclose(alone[0], x[i], rtol=1e-12, atol=1e-14)


def test_gmres_of_nothing_of_nan_and_of_a_singular_matrix():
    matrix = torch.diag_embed(torch.tensor([[1.0, 2.0], [1.0, 2.0], [0.0, 1.0], [1.0, 2.0]]))
    b = torch.tensor([[0.0, 0.0], [math.nan, 1.0], [1.0, 0.0], [1.0, 2.0]])
    x, left = gmres(lambda w: torch.einsum("bij,bj->bi", matrix, w), b, 1e-12)
    assert x[0].tolist() == [0.0, 0.0] and torch.allclose(x[3], torch.ones(2))
    assert float(left[2]) == pytest.approx(1.0) and float(left[3]) < 1e-12


def test_a_gradient_that_gmres_cannot_solve_for_is_an_error():
    at = linearised(lambda z: z, torch.randn(1, 1, 3))  # 1 − a ∂g/∂z = 0
    with pytest.raises(NoConvergence, match="linear equations of a gradient"):
        Krylov(at, torch.ones(1, 1), 1e-12).transposed(torch.ones(1, 1, 3))
