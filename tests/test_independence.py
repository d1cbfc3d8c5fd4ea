"""No sample's result depends on its batch: equal to its solve alone, in states, steps and evaluations."""

import math

import pytest
import torch
from rows import Rows, attracted

from deqlight import ODETerm, SaveAt, solve
from deqlight.controllers import PID, Constant
from deqlight.policies import Freeze
from deqlight.solvers import Dopri5, Heun, Kvaerno3, Kvaerno5, RadauIIA5, Rodas4, StepDoubling, Trapezoid

ALIKE = {"rtol": 1e-12, "atol": 1e-300}
"""What float64 leaves between a row of a batch and the same row alone: sums in another order."""

WITHOUT_WASTE = 1.05
"""The most that the rows of all field calls may exceed those of the solves alone."""


@pytest.fixture
def y0(double):
    return torch.rand(64, 3) + 0.5


def stiff_row(size):
    rates = torch.ones(size) + torch.rand(size)
    rates[size // 2] = 5000.0
    return rates


PIDS = [PID(1e-6, 1e-8), PID(1e-6, 1e-8, pcoeff=0.4, icoeff=0.3), PID(1e-4, 1e-6, quantum=0.0)]


@pytest.mark.parametrize("pid", PIDS, ids=["I", "PI", "unrounded"])
@pytest.mark.parametrize("dense", [False, True])
def test_one_stiff_row_among_easy_ones(y0, pid, dense):
    rates, ts, saveat = stiff_row(64), [0.0, 0.3, 1.0], SaveAt(dense=dense)
    options = {"solver": Dopri5(), "controller": pid, "saveat": saveat, "max_steps": 10_000}
    term = Rows(rates, attracted)
    together = solve(term, y0, ts, **options)
    alone_rows = 0
    for i in range(64):
        single = Rows(rates[i : i + 1], attracted)
        alone = solve(single, y0[i : i + 1], ts, **options)
        assert torch.allclose(together.ys[:, i], alone.ys[:, 0], **ALIKE)
        assert together.stats.nfe[i] == alone.stats.nfe[0]
        assert together.stats.accepted[i] == alone.stats.accepted[0]
        assert together.stats.rejected[i] == alone.stats.rejected[0]
        alone_rows += sum(single.called)
    assert sum(term.called) <= WITHOUT_WASTE * alone_rows
    assert sum(term.called) == int(together.stats.nfe.sum())


IMPLICIT = [
    Kvaerno3(),
    Kvaerno5(),
    RadauIIA5(),
    Rodas4(),
    Kvaerno5(dense=0),
    RadauIIA5(dense=0),
    StepDoubling(Trapezoid()),
]


@pytest.mark.parametrize(
    "solver", IMPLICIT, ids=["K3", "K5", "Radau", "Rodas4", "K5 by GMRES", "Radau by GMRES", "doubled"]
)
def test_inner_iterations_stop_sample_by_sample(y0, solver):
    """One very stiff row, whose Newton iterations are others; a nonlinear field, so that they are several."""

    def field(rate, t, y):
        return -rate * (torch.sinh(y) - torch.cos(torch.as_tensor(t, dtype=y.dtype)))

    rates = stiff_row(64)
    rates[32] = 1e6
    term, pid = Rows(rates, field), PID(1e-5, 1e-7)
    together = solve(term, y0, [0.0, 1.0], solver=solver, controller=pid)
    alone_rows = 0
    for i in range(64):
        single = Rows(rates[i : i + 1], field)
        alone = solve(single, y0[i : i + 1], [0.0, 1.0], solver=solver, controller=pid)
        assert torch.allclose(together.ys[:, i], alone.ys[:, 0], **ALIKE)
        assert together.stats.nfe[i] == alone.stats.nfe[0]
        alone_rows += sum(single.called)
    assert sum(term.called) <= WITHOUT_WASTE * alone_rows
    assert sum(term.called) == int(together.stats.nfe.sum())


@pytest.mark.parametrize("solver", [Dopri5(), Kvaerno5(), Rodas4()], ids=repr)
@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("when", [-1.0, 0.4])
def test_one_row_of_nan_leaves_the_other_63_as_they_were(y0, when, requires_grad, solver):
    def field(bad, t, y):
        return torch.where((bad > 0) & (torch.as_tensor(t) > when), math.nan, -y * torch.cos(torch.as_tensor(t)))

    bad = torch.zeros(64)
    bad[17] = 1.0
    y0.requires_grad_(requires_grad)
    options = {"solver": solver, "controller": PID(1e-6, 1e-8)}
    clean = solve(Rows(torch.zeros(64), field), y0, [0.0, 0.2, 1.0], **options)
    mixed = solve(Rows(bad, field), y0, [0.0, 0.2, 1.0], on_failure=Freeze(), **options)
    others = torch.arange(64) != 17
    assert torch.allclose(mixed.ys[:, others], clean.ys[:, others], **ALIKE)
    assert bool(mixed.y1[17].isnan().all()) and [f.samples for f in mixed.failures] == [(17,)]
    assert mixed.failures[0].kind == "NonFinite" and mixed.failures[0].t == pytest.approx(max(when, 0.0), abs=0.02)
    if when > 0.2:
        assert torch.equal(mixed.ys[:2, 17], clean.ys[:2, 17])
    if not requires_grad:
        assert torch.equal(mixed.stats.nfe[others], clean.stats.nfe[others])
        return
    (grad,) = torch.autograd.grad(mixed.y1[others].sum(), y0)
    assert torch.allclose(grad[others], torch.full_like(grad[others], math.exp(-math.sin(1.0))), rtol=1e-5)
    assert bool((grad[17] == 0).all())


def test_a_joint_norm_is_the_other_choice(y0):
    """One clock for all: the stiff row's steps are everybody's."""
    stats = solve(
        Rows(stiff_row(64), attracted),
        y0,
        [0.0, 0.1],
        solver=Dopri5(),
        controller=PID(1e-6, 1e-8, norm="joint"),
        max_steps=10_000,
    ).stats
    assert stats.accepted.unique().numel() == 1


def test_the_solve_does_not_look_at_the_batch_on_fixed_grids(y0):
    term = Rows(stiff_row(64) / 100, attracted)
    together = solve(term, y0, [0.0, 1.0], solver=Heun(), controller=Constant(steps=50)).y1
    for i in (0, 32, 63):
        alone = Rows(term.rates[i : i + 1], attracted)
        one = solve(alone, y0[i : i + 1], [0.0, 1.0], solver=Heun(), controller=Constant(steps=50)).y1
        assert torch.allclose(together[i], one[0], **ALIKE)


def test_shapes_of_any_number_of_axes(double):
    for shape in ((4,), (4, 2), (4, 2, 3, 1)):
        y0 = torch.rand(shape)
        y1 = solve(ODETerm(lambda t, y: -y * torch.cos(t)), y0, [0, 1], solver=Dopri5(), controller=PID(1e-9, 1e-9)).y1
        assert torch.allclose(y1, y0 * math.exp(-math.sin(1)), rtol=1e-7)
