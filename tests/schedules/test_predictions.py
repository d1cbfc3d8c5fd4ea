"""All that networks are trained to tell says the same of noise and data."""

import math
from typing import get_args

import pytest
import torch
from published_schedules import ALL, times

from deqlight.errors import InputError
from deqlight.schedules import EDM, VP, Preconditioned, Prediction, RectifiedFlow, target, to_data, to_eps

EXACT = 1e-12

KINDS = get_args(Prediction)

pytestmark = pytest.mark.usefixtures("double")


def close(a, b, tolerance=EXACT):
    return torch.allclose(a, b, rtol=tolerance, atol=tolerance)


def mixture(schedule, t):
    x0, eps = torch.randn(2, 5, 3, 4, 4)
    return x0, eps, schedule.alpha(t) * x0 + schedule.sigma(t) * eps


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_noise_and_data_come_back_from_what_they_make(schedule, kind):
    for t in times(schedule, 12, 0.05):
        x0, eps, x = mixture(schedule, t)
        told = target(kind, x0, eps, t, schedule)
        lost = EXACT * max(1 / schedule.alpha(t), 1 / schedule.sigma(t), schedule.sigma(t))  # of a sum of both
        assert close(to_eps(kind, told, x, t, schedule), eps, lost)
        assert close(to_data(kind, told, x, t, schedule), x0, lost)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_what_is_known_of_gaussian_data_is_the_same_in_all_words(schedule, kind):
    """Of data N(m, s²) the score is −(x − α m)/(α² s² + σ²), and all else follows from the equation."""
    m, s = 0.7, 1.3
    x = torch.linspace(-4, 4, 41)
    for t in times(schedule, 12, 0.05):
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        score = -(x - alpha * m) / (alpha**2 * s**2 + sigma**2)
        eps, data = -sigma * score, (x + sigma**2 * score) / alpha
        f, g = schedule.drift(t), schedule.diffusion(t)
        told = {
            "eps": eps,
            "x0": (s**2 * alpha * x + sigma**2 * m) / (alpha**2 * s**2 + sigma**2),
            "v": alpha * eps - sigma * data,
            "score": score,
            "velocity": f * x - g**2 / 2 * score,  # the probability-flow ODE
        }
        lost = EXACT * max(1, sigma) / alpha
        assert close(to_eps(kind, told[kind], x, t, schedule), eps, 10 * EXACT * max(1, 1 / sigma))
        assert close(to_data(kind, told[kind], x, t, schedule), told["x0"], lost)


@pytest.mark.parametrize("kind", KINDS)
def test_times_of_each_sample_do_what_one_time_does(kind):
    schedule, t = VP(), torch.tensor([0.1, 0.2, 0.5, 0.8, 0.9])
    told, x = torch.randn(2, 5, 3, 4, 4)
    for to in (to_eps, to_data, target):
        each = torch.stack([to(kind, told[i], x[i], float(t[i]), schedule) for i in range(5)])
        assert close(to(kind, told, x, t, schedule), each)
        assert close(to(kind, told, x, t.reshape(5, 1, 1, 1), schedule), each)
        single = to(kind, told.float(), x.float(), t, schedule)  # the coefficients are of the time's dtype
        assert single.dtype == torch.float32 and close(single.double(), each, 1e-4)


def test_a_flow_tells_of_the_data_where_there_are_none():
    x0, eps, x = mixture(RectifiedFlow(), 1.0)
    u = target("velocity", x0, eps, 1.0, RectifiedFlow())
    assert torch.equal(u, eps - x0)
    assert close(to_data("velocity", u, x, 1.0, RectifiedFlow()), x0)
    assert close(to_data("v", target("v", x0, eps, 1.0, RectifiedFlow()), x, 1.0, RectifiedFlow()), x0)


def test_where_a_prediction_does_not_say_it_is_not_made_up():
    x = torch.ones(2, 1)
    assert not to_eps("x0", x, x, 0.0, VP()).isfinite().any()
    assert not to_data("eps", x, x * 2, 1.0, RectifiedFlow()).isfinite().any()
    assert not to_data("velocity", x, x, 0.0, VP()).isfinite().any()


@pytest.mark.parametrize("of", [to_eps, to_data, target])
def test_another_word_is_refused(of):
    with pytest.raises(InputError, match="kind='epsilon'; it must be one of eps, x0, v, score, velocity"):
        of("epsilon", torch.ones(1, 1), torch.ones(1, 1), 0.5, VP())


@pytest.mark.parametrize("sigma", [0.002, 0.3, 0.5, 7.0, 80.0])
def test_edms_frame_shows_and_asks_for_variance_one(sigma):
    frame = Preconditioned(sigma_data=0.5)
    assert frame.c_in(sigma) ** 2 * (0.5**2 + sigma**2) == pytest.approx(1, rel=EXACT)
    of_data, of_noise = (1 - frame.c_skip(sigma)) / frame.c_out(sigma), frame.c_skip(sigma) * sigma / frame.c_out(sigma)
    assert (of_data * 0.5) ** 2 + of_noise**2 == pytest.approx(1, rel=1e-9)  # 1 − c_skip is a difference
    assert frame.c_noise(sigma) == math.log(sigma) / 4
    x0 = torch.randn(5, 3)
    y = x0 + sigma * torch.randn(5, 3)
    for given in (sigma, torch.full((5,), sigma), torch.full((5, 1), sigma)):
        assert close(frame.data(frame.target(x0, y, given), y, given), x0)


@pytest.mark.parametrize("sigma", [0.002, 0.3, 7.0, 80.0])
def test_of_gaussian_data_edms_frame_knows_all_without_a_network(sigma):
    score = -torch.ones(1, 1) / (0.5**2 + sigma**2)
    data = to_data("score", score, torch.ones(1, 1), sigma, EDM())
    assert close(Preconditioned(0.5).data(torch.zeros(1, 1), torch.ones(1, 1), sigma), data, 1e-10)
