"""Brownian motion on a grid: its law, how intervals add up, the same whatever the batch and the area."""

import math

import pytest
import torch

from deqlight import SDETerm, solve
from deqlight.brownian import LEVY, SPACE_TIME, Grid, Increments, Key, keyed
from deqlight.controllers import PID, Constant
from deqlight.errors import InputError
from deqlight.solvers import Euler, Heun, Milstein, StepDoubling

TIMES = (0.0, 0.25, 0.375, 1.0)
MANY = 200_000
SIGMAS = 5.0


def path(area=LEVY, batch=3, channels=2, **options):
    like = torch.zeros(batch, channels, dtype=torch.float64)
    return Increments(**{"seed": 1, **options}).draw(like, Grid(lambda: TIMES, True), area)


def close(values, expected):
    """Whether a mean of values is as expected, within 5 standard errors."""
    return abs(float(values.mean()) - expected) <= SIGMAS * float(values.std()) / math.sqrt(len(values))


@pytest.mark.parametrize(("t0", "t1"), [(0.25, 0.375), (0.0, 1.0)])
def test_the_law_of_an_interval(t0, t1):
    """Of one of the grid, and of all together: Var W = h, Var U = h³/3, E WU = h²/2, Var A = h²/4."""
    h = t1 - t0
    w, u, a = path(batch=MANY, key="rank").increment(t0, t1)
    assert close(w[:, 0], 0.0)
    assert close(w[:, 0] ** 2, h)
    assert close(w[:, 0] * w[:, 1], 0.0)
    assert close(u[:, 0] ** 2, h**3 / 3)
    assert close(u[:, 0] * w[:, 0], h**2 / 2)
    assert close(a[:, 0, 1], 0.0)
    assert close(a[:, 0, 1] ** 2, h**2 / 4)
    assert close(a[:, 0, 1] ** 2 * w[:, 0] ** 2, h**3 / 4 * (1 + 2 / 3))  # large increments, large areas
    assert torch.equal(a, -a.mT)


def test_intervals_add_up():
    found = path()
    whole, left, right = (found.increment(*ends) for ends in ((0.0, 1.0), (0.0, 0.25), (0.25, 1.0)))
    torch.testing.assert_close(whole.w, left.w + right.w, rtol=0, atol=1e-15)
    torch.testing.assert_close(whole.u, left.u + right.u + 0.75 * left.w, rtol=0, atol=1e-15)
    between = left.w[:, :, None] * right.w[:, None, :]
    torch.testing.assert_close(whole.a, left.a + right.a + 0.5 * (between - between.mT), rtol=0, atol=1e-15)


def test_there_and_back():
    """Back in time is the same path: W and A change sign, U is measured from the other end."""
    there, back = (path().increment(*ends) for ends in ((0.0, 0.375), (0.375, 0.0)))
    torch.testing.assert_close(back.w, -there.w)
    torch.testing.assert_close(back.u, 0.375 * there.w - there.u)
    torch.testing.assert_close(back.a, -there.a)


@pytest.mark.parametrize("area", [0, SPACE_TIME])
def test_what_else_is_asked_changes_nothing_of_w(area):
    assert torch.equal(path(area).increment(0.0, 1.0).w, path().increment(0.0, 1.0).w)
    assert path(0).increment(0.0, 0.25).u is None


def test_rows_of_a_path_and_paths_of_a_part_of_the_batch():
    ids = torch.tensor([17, 3, 5])
    with keyed(Key(0, 2, ids)):
        whole = path(seed=None)
    with keyed(Key(0, 2, ids[[2, 0]])):
        part = path(seed=None, batch=2)
    for a, b, c in zip(
        whole.rows(torch.tensor([2, 0])).increment(0.25, 1.0),
        part.increment(0.25, 1.0),
        whole.increment(0.25, 1.0),
        strict=True,
    ):
        assert torch.equal(a, b)
        assert torch.equal(a, c[[2, 0]])


def test_solves_on_finer_and_coarser_grids_see_one_path():
    base = [k / 16 for k in range(17)]
    term = SDETerm(
        lambda t, y: 0 * y,
        lambda t, y: 1 + 0 * y,
        noise="additive",
        calculus="ito",
        brownian=Increments(base=base, seed=3),
    )
    ends = [solve(term, torch.zeros(4, 2), [k / n for k in range(n + 1)], solver=Euler()).y1 for n in (1, 4, 16)]
    torch.testing.assert_close(ends[0], ends[1])
    torch.testing.assert_close(ends[0], ends[2])


def test_refined_grids_serve_methods_that_look_inside_a_step():
    def gbm(**options):
        return SDETerm(
            lambda t, y: -y,
            lambda t, y: 0.1 * y,
            noise="diagonal",
            calculus="stratonovich",
            brownian=Increments(**options),
        )

    y0 = torch.ones(2, 2)
    with pytest.raises(InputError, match="refine=2"):
        solve(gbm(), y0, [0.0, 1.0], solver=StepDoubling(Heun()))
    assert solve(gbm(refine=2), y0, [0.0, 1.0], solver=StepDoubling(Heun())).y1.isfinite().all()


def test_grids_of_the_controller_and_back_in_time():
    term = SDETerm(lambda t, y: 0 * y, lambda t, y: 1 + 0 * y, noise="additive", calculus="stratonovich")
    y0 = torch.zeros(2, 2, dtype=torch.float64)
    ends = []
    for ts in ([0.0, 1.0], [1.0, 0.0]):
        with keyed(Key(0)):
            ends.append(solve(term, y0, ts, solver=Heun(), controller=Constant(steps=10)).y1)
    torch.testing.assert_close(ends[0], -ends[1])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"key": "batch"}, "'sample' or 'rank'"),
        ({"refine": 0}, "at least 1"),
        ({"base": [0.0]}, "two times"),
        ({"base": [0.0, 1.0, 0.5]}, "in order"),
        ({"base": [0.0, math.inf]}, "in order"),
    ],
)
def test_what_makes_no_sense_is_refused(options, words):
    with pytest.raises(InputError, match=words):
        Increments(**options)


def test_other_intervals_and_measured_steps_are_refused():
    with pytest.raises(InputError, match=r"ends at 0.5, which is none of them"):
        path().increment(0.0, 0.5)
    term = SDETerm(lambda t, y: -y, lambda t, y: 0.1 * y, noise="diagonal", calculus="ito")
    with pytest.raises(InputError, match="Interval"):
        solve(term, torch.ones(2, 1), [0.0, 1.0], solver=StepDoubling(Milstein()), controller=PID(1e-2, 1e-2))
    with pytest.raises(InputError, match="Lévy area"):
        Increments().draw(torch.zeros(2, 3, 3), Grid(lambda: TIMES, True), LEVY)


def test_a_hundred_steps_of_a_hundredth_are_a_hundred():
    """Their sum in float32 falls short of 1; there is no step over what is left."""
    ends = torch.tensor([0.0, 1.0])
    assert float(sum(torch.full((100,), 0.01), torch.zeros(()))) != 1.0
    term = SDETerm(lambda t, y: -y, lambda t, y: 0.1 * y, noise="diagonal", calculus="ito")
    solution = solve(term, torch.ones(2, 1), ends, solver=Euler(), controller=Constant(dt=0.01))
    assert solution.stats.accepted.tolist() == [100, 100]
