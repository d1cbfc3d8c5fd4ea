"""The forward equation dx = f x dt + g dw has the kernel N(α x₀, σ²): by quadrature, and by drawing paths."""

import math

import pytest
import torch
from published_schedules import ALL, CONTINUOUS
from scipy.integrate import solve_ivp

PATHS, STEPS = 10_000, 500

pytestmark = pytest.mark.usefixtures("double")


def span(schedule):
    """From the clean end to well before time stands still."""
    low, high = schedule.ends
    return (low or 1e-6), low + 0.7 * (high - low)


@pytest.mark.parametrize("schedule", CONTINUOUS, ids=repr)
def test_mean_and_variance_solve_the_moment_equations(schedule):
    t0, t1 = span(schedule)

    def moments(t, y):
        f, g = schedule.drift(t), schedule.diffusion(t)
        return [f, 2 * f * y[1] + g**2]

    start = [math.log(schedule.alpha(t0)), schedule.sigma(t0) ** 2]
    mean, variance = solve_ivp(moments, (t0, t1), start, method="DOP853", rtol=1e-12, atol=1e-14).y[:, -1]
    assert math.exp(mean) == pytest.approx(schedule.alpha(t1), rel=1e-9)
    assert math.sqrt(variance) == pytest.approx(schedule.sigma(t1), rel=1e-9)


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_paths_have_the_kernels_mean_and_deviation(schedule):
    (t0, t1), x0 = span(schedule), 1.5
    t1 = t0 + (t1 - t0) / 2
    x = schedule.alpha(t0) * x0 + schedule.sigma(t0) * torch.randn(PATHS)
    dt = (t1 - t0) / STEPS
    for n in range(STEPS):
        t = t0 + (n + 0.5) * dt  # the middle: noise that grows is not left behind
        x = x + schedule.drift(t) * x * dt + schedule.diffusion(t) * math.sqrt(dt) * torch.randn(PATHS)
    sigma = schedule.sigma(t1)
    assert abs(float(x.mean()) - schedule.alpha(t1) * x0) < 5 * sigma / math.sqrt(PATHS)
    assert abs(float(x.var()) / sigma**2 - 1) < 5 * math.sqrt(2 / PATHS)
