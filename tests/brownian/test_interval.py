"""Brownian motion anywhere: consistent as it is refined, each sample's its own, right for measured steps."""

import math

import pytest
import torch

from deqlight import SDETerm, solve
from deqlight.brownian import LEVY, SPACE_TIME, Grid, Interval, Key, keyed
from deqlight.controllers import PID
from deqlight.errors import InputError, StepUnderflow
from deqlight.solvers import Euler, Heun, LogODE, Milstein, StepDoubling

WHOLE = Grid(lambda: (0.0, 1.0), False)


def path(area=0, batch=4, key="sample", seed=1):
    return Interval(key=key, seed=seed).draw(torch.zeros(batch, 2, dtype=torch.float64), WHOLE, area)


@pytest.mark.parametrize("key", ["sample", "rank"])
@pytest.mark.parametrize("area", [0, SPACE_TIME, LEVY])
def test_refinement_is_consistent(key, area):
    found = path(area, key=key)
    whole = found.increment(0.0, 1.0)
    parts = [found.increment(*ends) for ends in ((0.0, 0.3), (0.3, 0.31), (0.31, 1.0))]
    torch.testing.assert_close(whole.w, sum(part.w for part in parts), rtol=0, atol=1e-14)
    assert torch.equal(found.increment(0.0, 1.0).w, whole.w)
    assert torch.equal(found.increment(1.0, 0.0).w, -whole.w)
    if area:
        w, u = parts[0].w + parts[1].w, parts[0].u + parts[1].u + 0.01 * parts[0].w
        torch.testing.assert_close(whole.u, u + parts[2].u + 0.69 * w, rtol=0, atol=1e-14)


def test_the_law_of_an_interval():
    many = 100_000
    found = path(LEVY, batch=many, key="rank")
    for t0, t1 in ((0.0, 1.0), (0.25, 0.5)):
        h = t1 - t0
        w, u, a = found.increment(t0, t1)
        for values, expected in ((w[:, 0] ** 2, h), (u[:, 0] ** 2, h**3 / 3), (a[:, 0, 1] ** 2, h * h / 4)):
            assert abs(float(values.mean()) - expected) <= 5 * float(values.std()) / math.sqrt(many)


def test_each_sample_has_a_path_of_its_own_whatever_its_batch():
    ids = torch.tensor([17, 3, 5])
    with keyed(Key(0, 2, ids)):
        whole = path(batch=3, seed=None).increment(0.2, 0.7).w
    with keyed(Key(0, 2, ids[[2, 0]])):
        part = path(batch=2, seed=None)
    assert torch.equal(part.increment(0.2, 0.7).w, whole[[2, 0]])
    assert torch.equal(part.rows(torch.tensor([1])).increment(0.2, 0.7).w, whole[[0]])
    times = torch.tensor([[0.2], [0.0]], dtype=torch.float64), torch.tensor([[0.7], [1.0]], dtype=torch.float64)
    assert torch.equal(part.increment(*times).w[0], whole[2])


def test_many_steps_neither_recurse_too_deep_nor_leave_slivers():
    found = path(batch=1)
    steps = 3000
    total = sum(found.increment(k / steps, (k + 1) / steps).w for k in range(steps))
    torch.testing.assert_close(total, found.increment(0.0, 1.0).w, rtol=0, atol=1e-11)


def gbm(calculus, brownian):
    return SDETerm(lambda t, y: -y, lambda t, y: 0.5 * y, noise="diagonal", calculus=calculus, brownian=brownian)


@pytest.mark.parametrize(("solver", "calculus"), [(Heun(), "stratonovich"), (StepDoubling(Milstein()), "ito")])
@pytest.mark.parametrize("norm", ["joint", "sample"])
def test_measured_steps_meet_the_exact_path(solver, calculus, norm):
    """y = exp((−1 − ½ 0.25) t + ½ W) in Itô's sense; the error falls with the tolerance."""
    y0 = torch.ones(16, 1, dtype=torch.float64)
    w = Interval(seed=1).draw(y0, WHOLE, 0).increment(0.0, 1.0).w
    exact = torch.exp(-1.0 - (0.125 if calculus == "ito" else 0.0) + 0.5 * w)
    errors = []
    for tol in (3e-2, 1e-3):
        solution = solve(
            gbm(calculus, Interval(seed=1)), y0, [0.0, 1.0], solver=solver, controller=PID(tol, tol, norm=norm)
        )
        errors.append(float((solution.y1 - exact).abs().mean()))
    assert errors[1] < errors[0] / 4
    assert errors[1] < 6e-3


def test_a_sample_does_not_depend_on_its_batch_mates():
    y0, pace = torch.rand(5, 1, dtype=torch.float64) + 0.5, PID(1e-2, 1e-2)
    ids = torch.arange(5)
    with keyed(Key(0, 0, ids)):
        whole = solve(gbm("stratonovich", Interval()), y0, [0.0, 1.0], solver=Heun(), controller=pace)
    for rows in ([1], [4, 0]):
        with keyed(Key(0, 0, ids[rows])):
            part = solve(gbm("stratonovich", Interval()), y0[rows], [0.0, 1.0], solver=Heun(), controller=pace)
        assert torch.equal(part.y1, whole.y1[rows])
        assert torch.equal(part.stats.accepted, whole.stats.accepted[rows])


def test_steps_at_dtmin_are_never_taken_in_silence():
    pace = PID(1e-8, 1e-8, dtmin=1e-2)
    with pytest.raises(StepUnderflow, match="dtmin"):
        solve(gbm("stratonovich", Interval(seed=0)), torch.ones(2, 1), [0.0, 1.0], solver=Heun(), controller=pace)


def test_methods_of_low_order_are_refused_where_steps_follow_the_noise():
    with pytest.raises(InputError, match="Gaines"):
        solve(
            gbm("ito", Interval()),
            torch.ones(2, 1),
            [0.0, 1.0],
            solver=StepDoubling(Euler()),
            controller=PID(1e-2, 1e-2),
        )


def test_what_is_outside_or_of_another_kind_is_refused():
    with pytest.raises(InputError, match="from 0 to 1"):
        path().increment(0.5, 1.5)
    with pytest.raises(InputError, match="'sample' or 'rank'"):
        Interval(key="batch")
    times = torch.tensor([[0.0], [0.1]]), torch.tensor([[1.0], [0.9]])
    with pytest.raises(InputError, match="key='sample'"):
        path(batch=2, key="rank").increment(*times)


def test_general_noise_with_its_area():
    term = SDETerm(
        lambda t, y: -y,
        lambda t, y: 0.1 * torch.stack([y, y.flip(1)], -1),
        noise="general",
        calculus="stratonovich",
        channels=2,
        brownian=Interval(seed=2),
    )
    ends = [solve(term, torch.ones(3, 2), [0.0, 0.5, 1.0], solver=LogODE()).y1 for _ in range(2)]
    assert torch.equal(*ends)
