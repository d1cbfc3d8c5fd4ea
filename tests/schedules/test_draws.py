"""Laws of training times: each density is that of the times that are drawn."""

import math

import pytest
import torch

from deqlight.errors import InputError
from deqlight.schedules import (
    EDM,
    VE,
    VP,
    Cosine,
    DDPMTable,
    LogitNormalDraw,
    LogNormalDraw,
    LogSNRDraw,
    RectifiedFlow,
    SubVP,
    Trigonometric,
    UniformDraw,
)

EVEN = torch.arange(100_000, dtype=torch.float64) / 100_000 + 0.5e-5
"""Numbers that stand for all of [0, 1)."""

BY_QUADRATURE = 2e-3
"""Of sums in the place of integrals, with a function that vanishes at the ends, where laws are held."""

SCHEDULES = [VP(), SubVP(), VE(), Cosine(), EDM(), RectifiedFlow(), Trigonometric()]
DRAWS = [UniformDraw(), LogSNRDraw(), LogNormalDraw(0.0, 2.5), LogitNormalDraw(-2.0, 2.0)]


def name(value):
    return type(value).__name__


def bump(t, schedule):
    """A function of time: in log ρ, so that every schedule's has a width."""
    low, high = (math.log(rho) for rho in reversed(schedule.rho_ends))
    share = ((schedule.rho(t).log() - low) / (high - low)).clamp(0, 1)
    return (share * (1 - share)) ** 4


@pytest.mark.parametrize("schedule", SCHEDULES, ids=name)
@pytest.mark.parametrize("draw", DRAWS, ids=name)
def test_a_mean_divided_by_the_density_is_that_of_even_times(draw, schedule):
    first, last = schedule.ends
    even = bump(first + EVEN * (last - first), schedule).nan_to_num(0.0)
    t = draw.times(EVEN, schedule)
    drawn = (bump(t, schedule) / draw.density(t, schedule)).nan_to_num(0.0)
    assert float(drawn.mean()) == pytest.approx(float(even.mean()), rel=BY_QUADRATURE)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=name)
@pytest.mark.parametrize("draw", DRAWS, ids=name)
def test_times_lie_between_the_ends(draw, schedule):
    u = torch.tensor([0.0, 1e-9, 0.3, 0.999, 1 - 2.0**-24])
    t = draw.times(u, schedule)
    assert t.dtype == torch.float32 and t.isfinite().all()
    assert (t >= schedule.ends[0] - 1e-6).all() and (t <= schedule.ends[1] * (1 + 1e-6)).all()
    assert (t.diff() >= 0).all()


def test_noise_of_edm_is_lognormal():
    logs = LogNormalDraw().times(EVEN, EDM()).log()
    assert float(logs.mean()) == pytest.approx(-1.2, abs=1e-3) and float(logs.std()) == pytest.approx(1.2, rel=1e-3)


def test_even_logs_of_the_ratio():
    t = LogSNRDraw().times(torch.tensor([0.0, 0.5], dtype=torch.float64), VP())
    most, least = VP().rho_ends
    assert VP().rho(t).tolist() == pytest.approx([least, math.sqrt(most * least)], rel=1e-9)


def test_labels_are_those_of_the_table():
    table, u = DDPMTable(), torch.tensor([0.0, 0.0014, 0.9999], dtype=torch.float64)
    assert table.label(UniformDraw(labels=1000).times(u, table)).tolist() == pytest.approx([0, 1, 999], abs=1e-9)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: UniformDraw(labels=0), "labels=0"),
        (lambda: LogNormalDraw(std=0.0), "std=0.0"),
        (lambda: LogitNormalDraw(mean=math.nan), "mean=nan"),
    ],
    ids=["labels", "std", "mean"],
)
def test_what_is_no_law(make, words):
    with pytest.raises(InputError, match=words):
        make()
