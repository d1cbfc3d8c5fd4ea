"""Sums of fields, exact flows of linear ones, and their φ-functions to the last digits."""

import math
from decimal import Decimal, getcontext

import pytest
import torch
from torch import nn

from deqlight import Layered, Partitioned, solve
from deqlight.errors import InputError, ShapeError
from deqlight.solvers import Euler
from deqlight.terms import DiagonalFlow, LinearFlow, MatrixFlow, Semilinear, Split
from deqlight.terms.flows import phi

LAST_DIGITS = 1e-14  # relative, of a φ-function of one number: some tens of eps
MATRIX_DIGITS = 1e-13  # the same by a matrix exponential of moderate size


def exactly(k, z):
    """φₖ(z) to 60 digits, by its series where that converges quickly, by its recurrence elsewhere."""
    getcontext().prec = 80
    z = Decimal(z)
    if abs(z) < 2:
        return sum((z**n if n else Decimal(1)) / math.factorial(n + k) for n in range(80))
    value = z.exp()
    for j in range(k):
        value = (value - 1 / Decimal(math.factorial(j))) / z
    return value


def points():
    fine = [-1.0, 1.0, math.nextafter(-1.0, 0), math.nextafter(1.0, 0), 0.0]
    return torch.cat([-torch.logspace(-9, 4, 261), torch.logspace(-9, 0, 91), torch.tensor(fine)])


@pytest.mark.parametrize("k", [0, 1, 2, 3])
def test_phi_of_numbers_to_the_last_digits(k, double):
    for z, found in zip(points().tolist(), phi(k, points()).tolist(), strict=True):
        expected = exactly(k, z)
        assert abs(Decimal(found) - expected) <= Decimal(LAST_DIGITS) * expected + Decimal("1e-300"), z


@pytest.mark.parametrize("k", [0, 1, 2, 3])
def test_phi_in_single_precision(k):
    z = points().float()
    expected = torch.tensor([float(exactly(k, float(x))) for x in z], dtype=torch.float64)
    assert torch.allclose(phi(k, z).double(), expected, rtol=2e-6, atol=1e-37)


@pytest.mark.parametrize("k", [0, 1, 2, 3])
def test_phi_has_its_derivatives_at_zero_and_far_from_it(k, double):
    z = torch.tensor([0.0, -1e-3, -0.999, -1.0, -3.0, -1e4, 0.5], requires_grad=True)
    (slope,) = torch.autograd.grad(phi(k, z).sum(), z)
    h = Decimal("1e-20")
    for x, found in zip(z.tolist(), slope.tolist(), strict=True):
        expected = float((exactly(k, Decimal(x) + h) - exactly(k, Decimal(x) - h)) / (2 * h))
        assert found == pytest.approx(expected, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("k", [0, 1, 2, 3])
@pytest.mark.parametrize("h", [0.3, -0.3, 0.0], ids=str)
def test_matrix_and_diagonal_flows_agree(k, h, double):
    basis, rates = torch.linalg.qr(torch.randn(4, 4)).Q, torch.tensor([-5.0, -1.0, 0.0, 2.0])
    y = torch.randn(3, 2, 4)
    by_matrix = MatrixFlow(basis @ torch.diag(rates) @ basis.T).phi(k, h, y)
    by_rates = DiagonalFlow(rates).phi(k, h, y @ basis) @ basis.T
    assert torch.allclose(by_matrix, by_rates, rtol=MATRIX_DIGITS, atol=MATRIX_DIGITS)


def test_a_matrix_that_is_not_normal(double):
    """φ₁ of a Jordan block: φ₁(λ) on its diagonal, φ₁'(λ) above it."""
    flow, y = MatrixFlow(torch.tensor([[-2.0, 1.0], [0.0, -2.0]])), torch.tensor([[0.0, 1.0]])
    value, slope = (1 - math.exp(-2)) / 2, (1 - 3 * math.exp(-2)) / 4
    assert torch.allclose(flow.phi(1, 1.0, y), torch.tensor([[slope, value]]), rtol=MATRIX_DIGITS)


FLOWS = {
    "diagonal": lambda: DiagonalFlow(-torch.rand(3)),
    "matrix": lambda: MatrixFlow(torch.randn(3, 3)),
}


@pytest.mark.parametrize("shape", [(4, 3), (4, 5, 3), (4, 2, 5, 3), (0, 3), (0, 5, 3)], ids=str)
@pytest.mark.parametrize("kind", FLOWS)
def test_steps_of_each_sample_are_its_own(kind, shape, double):
    flow, y = FLOWS[kind](), torch.randn(shape)
    h = torch.linspace(0.1, -0.4, shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    for k in range(4):
        together = flow.phi(k, h, y)
        assert together.shape == y.shape and flow.phi(k, 0.2, y).shape == y.shape
        for i in range(shape[0]):
            assert torch.allclose(together[i], flow.phi(k, float(h[i].flatten()[0]), y[i : i + 1])[0], rtol=1e-12)


@pytest.mark.parametrize("kind", FLOWS)
def test_states_without_a_batch(kind, double):
    flow, y = FLOWS[kind](), torch.randn(3)
    assert torch.allclose(flow.phi(1, 0.3, y), flow.phi(1, 0.3, y[None])[0], rtol=1e-13)


@pytest.mark.parametrize("kind", FLOWS)
def test_a_flow_solves_its_equation(kind, double):
    flow, y0 = FLOWS[kind](), torch.randn(2, 3)
    with torch.no_grad():
        rate = torch.autograd.functional.jvp(lambda h: flow.phi(0, h, y0), torch.zeros(1, 1), torch.ones(1, 1))[1]
    assert torch.allclose(rate, flow(0.0, y0), rtol=1e-12)
    rest = flow.phi(0, 0.5, y0) - y0 - 0.5 * flow.phi(1, 0.5, flow(0.0, y0))
    assert float(rest.abs().max()) < 1e-14


@pytest.mark.parametrize("kind", FLOWS)
def test_learnt_flows_are_registered_and_others_move_with_the_module(kind):
    flow = FLOWS[kind]()
    (tensor,) = flow.buffers()
    assert not list(flow.parameters()) and next(iter(flow.double().buffers())).dtype == torch.float64
    assert len(list(type(flow)(nn.Parameter(tensor)).parameters())) == 1


def test_flows_say_what_they_cannot_take():
    with pytest.raises(InputError, match=r"shape \(2, 3\); it needs a square matrix"):
        MatrixFlow(torch.zeros(2, 3))
    pair = (torch.ones(1, 3), torch.ones(1, 3))
    for flow in (DiagonalFlow(torch.zeros(3)), MatrixFlow(torch.zeros(3, 3))):
        for call in (lambda flow=flow: flow(0.0, pair), lambda flow=flow: flow.phi(1, 0.1, pair)):
            with pytest.raises(ShapeError, match="got a state of 2 tensors; it acts on states of one"):
                call()


# Sums


def test_a_split_term_is_the_sum_of_its_parts(double):
    a, b = nn.Linear(3, 3), nn.Linear(3, 3)
    term = Split(lambda t, y: t * a(y), Layered([lambda t, y: b(y)] * 2))
    y = torch.randn(2, 3)
    assert torch.equal(term.vf(0.5, y), 0.5 * a(y) + b(y))
    assert not term.continuous and term.jumps(0.0, 2.0) == (1.0,)
    pair = Split(lambda t, y: (y[0], -y[1]), lambda t, y: (y[1], y[0]))
    assert all(torch.equal(*both) for both in zip(pair.vf(0.0, (y, 2 * y)), (3 * y, -y), strict=True))


def test_both_parts_choose_their_layer_and_give_their_tensors():
    flows, blocks = (
        [kind() for _ in range(3)]
        for kind in (lambda: DiagonalFlow(nn.Parameter(-torch.rand(2))), lambda: nn.Linear(2, 2))
    )
    term = Semilinear(Layered(flows), Layered(blocks))
    here = term.over(1.0, 2.0)
    assert isinstance(here, Semilinear) and here.flow is flows[1] and here.explicit.field is blocks[1]
    assert {id(p) for p in term.tensors(1.0, 2.0)} == {id(flows[1].rates), *map(id, blocks[1].parameters())}
    assert len(list(term.parameters())) == 9
    assert Semilinear(flows[0], blocks[0]).over(0.0, 7.0).flow is flows[0]


def test_hooks_see_the_fields_of_both_parts_and_no_flow():
    notes = []

    def hook(field, t, y):
        notes.append(field)
        return field(t, y)

    flow = DiagonalFlow(-torch.ones(2))
    term = Semilinear(flow, lambda t, y: y).wrap(hook)
    solve(term, torch.ones(1, 2), [0, 1], solver=Euler())
    assert len(notes) == 2 and flow in notes
    term.over(0.0, 1.0).flow.phi(1, 0.5, torch.ones(1, 2))
    assert len(notes) == 2


@pytest.mark.parametrize(
    "linear",
    [nn.Linear(2, 2), Layered([DiagonalFlow(torch.zeros(2)), nn.Linear(2, 2)]), lambda t, y: y],
    ids=["module", "layers", "function"],
)
def test_a_linear_part_whose_flow_is_unknown_is_refused(linear):
    with pytest.raises(InputError, match=r"it needs a LinearFlow, such as DiagonalFlow\(rates\) or MatrixFlow"):
        Semilinear(linear, lambda t, y: y)


def test_a_flow_is_abstract_and_terms_stay_apart():
    with pytest.raises(TypeError, match="abstract"):
        LinearFlow()
    assert not isinstance(Split(torch.sin, torch.cos), Partitioned)
