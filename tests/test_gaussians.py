"""Gaussians and mixtures with noise: the score is a gradient, the estimates are expectations, at every level."""

import math

import numpy as np
import pytest
import torch

from deqlight.errors import InputError, ShapeError
from deqlight.gaussians import CHOOSING, DIMENSIONS, REPORTING, Gaussian, GaussianMixture, mixtures

ROUNDING = 1e-12  # float64, sums of a few dozen numbers
LEVELS = (1e-4, 1e-2, 0.3, 1.0, 30.0, 1e4)
SIGMAS = 5.0
DRAWS = 100_000


def rng(seed=0):
    return np.random.default_rng(seed)


def gaussian(size=3):
    root = torch.from_numpy(rng(7).standard_normal((size, size)))
    return Gaussian(torch.linspace(-1, 2, size), root @ root.mT + 0.1 * torch.eye(size))


def mixture():
    return GaussianMixture([0.2, 0.5, 0.3], [[-2.0, 0.0], [1.0, 1.0], [0.0, -1.5]], [0.04, 0.25, 0.01])


TARGETS = {"Gaussian": gaussian(), "line": Gaussian([1.0], [[3.0]]), "three": mixture()} | {
    f"{size} dimensions": target for size, target in zip((5, 64), mixtures(3, (5, 64)), strict=True)
}


@pytest.fixture(params=TARGETS)
def target(request):
    return TARGETS[request.param]


def noised(target, rho, samples=16):
    x = target.sample(samples, rng(1))
    return x + rho * torch.from_numpy(rng(2).standard_normal(x.shape))


@pytest.mark.parametrize("rho", LEVELS)
def test_the_noise_estimate_is_the_score(target, rho):
    y = noised(target, rho).requires_grad_()
    (score,) = torch.autograd.grad(target.log_density(y, rho).sum(), y)
    eps = target.eps(rho, y)
    assert torch.allclose(eps, -rho * score, rtol=1e-9, atol=1e-9 * float(eps.detach().abs().max()))  # 1e4² against 1e4


@pytest.mark.parametrize("rho", LEVELS)
def test_data_and_noise_make_the_point(target, rho):
    y = noised(target, rho)
    assert torch.allclose(target.data(rho, y) + rho * target.eps(rho, y), y, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("rho", LEVELS)
def test_far_away_all_is_finite(target, rho):
    y = 1e3 * (1 + rho) * torch.ones(1, len(target.mean), dtype=torch.float64)
    for found in (target.log_density(y, rho), target.eps(rho, y), target.data(rho, y)):
        assert found.isfinite().all()


def test_at_large_noise_the_data_estimate_is_the_mean_and_at_small_noise_the_point(target):
    y = noised(target, 1e-4)
    assert (target.data(1e-4, y) - y).abs().max() < 1e-4 * 5  # ρ times a normal number, at most
    y = torch.zeros_like(y)
    assert torch.allclose(target.data(1e7, y), target.mean.expand_as(y), atol=1e-10)


def test_estimates_are_those_of_bayes_rule(target):
    """The points' own weights: E[x₀ | y] and p(y) as averages over draws of x₀, each within five deviations."""
    rho, x = 3.0, target.sample(DRAWS, rng(4))
    y = noised(target, rho, 3)
    size = x.shape[1]
    logs = -torch.cdist(y, x).square() / (2 * rho**2) - 0.5 * size * math.log(2 * math.pi * rho**2)
    density = logs.exp()
    error = density.std(1) / DRAWS**0.5
    assert ((density.mean(1) - target.log_density(y, rho).exp()).abs() < SIGMAS * error).all()
    share = logs.softmax(1)
    estimate = share @ x
    spread = (share.square()[..., None] * (x - estimate[:, None]).square()).sum(1).sqrt()
    assert ((estimate - target.data(rho, y)).abs() < SIGMAS * spread).all()


def test_moments_are_those_of_the_draws(target):
    x = target.sample(DRAWS, rng(5))
    apart = x - target.mean
    assert (apart.mean(0).abs() < SIGMAS * x.std(0) / DRAWS**0.5).all()
    products = apart[:, :, None] * apart[:, None, :] if x.shape[1] < 10 else apart.square()
    exact = target.covariance if x.shape[1] < 10 else target.covariance.diagonal()
    assert ((products.mean(0) - exact).abs() < SIGMAS * products.std(0) / DRAWS**0.5).all()


def test_noise_added_to_a_gaussian_is_a_gaussian(double):
    one, rho = gaussian(), 0.7
    wider = Gaussian(one.mean, one.covariance + rho**2 * torch.eye(3))
    y = noised(one, rho)
    assert torch.allclose(one.log_density(y, rho), wider.log_density(y), rtol=ROUNDING)
    exact = torch.distributions.MultivariateNormal(wider.mean, wider.covariance).log_prob(y)
    assert torch.allclose(one.log_density(y, rho), exact, rtol=ROUNDING)


def test_a_mixture_of_one_is_a_gaussian(double):
    both = (GaussianMixture([1.0], [[1.0, -2.0]], [0.3]), Gaussian([1.0, -2.0], 0.3 * torch.eye(2)))
    y = noised(both[1], 0.5)
    for what in (lambda it: it.log_density(y, 0.5), lambda it: it.eps(0.5, y), lambda it: it.data(0.5, y)):
        assert torch.allclose(*map(what, both), rtol=ROUNDING, atol=ROUNDING)
    assert torch.allclose(both[0].covariance, both[1].covariance)


def test_the_flow_follows_the_noise_estimate(double):
    """Its derivative is the estimate, and what it carries keeps its density."""
    one, y = gaussian(), noised(gaussian(), 2.0)
    at, end = torch.tensor(0.4, requires_grad=True), 0.4
    speed = torch.autograd.functional.jacobian(lambda rho: one.flow(2.0, rho, y), at)
    assert torch.allclose(speed, one.eps(end, one.flow(2.0, end, y)), rtol=ROUNDING)
    jacobian = torch.func.jacrev(lambda z: one.flow(2.0, end, z[None])[0])(y[0])
    moved = one.log_density(one.flow(2.0, end, y), end)[0] + jacobian.slogdet()[1]
    assert torch.allclose(moved, one.log_density(y, 2.0)[0], rtol=ROUNDING)
    assert torch.allclose(one.flow(end, 2.0, one.flow(2.0, end, y)), y, rtol=ROUNDING)


def test_levels_of_each_point_are_those_of_one_by_one(target):
    y, levels = noised(target, 1.0, 4), torch.tensor([[0.1], [0.5], [2.0], [9.0]], dtype=torch.float64)
    for what in (target.eps, target.data, lambda rho, y: target.log_density(y, rho)):
        alone = torch.cat([what(float(level), row[None]) for level, row in zip(levels, y, strict=True)])
        assert torch.allclose(what(levels, y), alone, rtol=ROUNDING, atol=ROUNDING)


def test_estimates_have_the_dtype_of_the_points(target):
    y = noised(target, 1.0).float()
    assert target.eps(1.0, y).dtype == target.data(1.0, y).dtype == torch.float32
    assert target.log_density(y, 1.0).dtype == torch.float64


@pytest.mark.parametrize("seed", [CHOOSING, REPORTING])
def test_a_dozen_mixtures_of_variance_one(seed):
    found = mixtures(seed)
    assert tuple(len(target.mean) for target in found) == DIMENSIONS and len(found) == 12
    for target in found:
        size = len(target.mean)
        assert 2 <= len(target.weights) <= 8
        assert target.mean.abs().max() < ROUNDING
        assert abs(target.covariance.trace() / size - 1) < ROUNDING


def test_mixtures_depend_on_their_seed_and_place_alone():
    one, same, other = mixtures(CHOOSING, (2, 3)), mixtures(CHOOSING, (2, 3, 9)), mixtures(REPORTING, (2, 3))
    assert torch.equal(one[1].means, same[1].means)
    assert not torch.equal(one[1].means[:2], other[1].means[:2])


@pytest.mark.parametrize(
    ("make", "kind", "told"),
    [
        (lambda: Gaussian([0.0], [[1.0, 0.0]]), ShapeError, r"\(1, 2\)"),
        (lambda: Gaussian([0.0, 0.0], [[1.0, 1.0], [1.0, 1.0]]), InputError, "least eigenvalue"),
        (lambda: Gaussian([0.0, 0.0], [[1.0, 0.5], [0.0, 1.0]]), InputError, "not symmetric"),
        (lambda: GaussianMixture([0.5], [[0.0], [1.0]], [1.0, 1.0]), ShapeError, "components"),
        (lambda: GaussianMixture([0.5, 0.4], [[0.0], [1.0]], [1.0, 1.0]), InputError, "sum to 0.9"),
        (lambda: GaussianMixture([1.5, -0.5], [[0.0], [1.0]], [1.0, 1.0]), InputError, "above 0 and sum"),
        (lambda: GaussianMixture([1.0], [[0.0]], [0.0]), InputError, "not above 0"),
        (lambda: mixture().eps(1.0, torch.zeros(4, 3)), ShapeError, r"\(4, 3\); it needs \(batch, 2\)"),
        (lambda: mixture().eps(torch.ones(3), torch.zeros(3, 2)), ShapeError, r"\(3,\); one number .* \(3, 1\)"),
        (lambda: mixtures(-1), InputError, "seed -1"),
        (lambda: mixtures(0, (0,)), InputError, "dimensions from 1"),
    ],
)
def test_what_cannot_be(make, kind, told):
    with pytest.raises(kind, match=told):
        make()
