"""Likelihoods by the probability flow: those of Gaussians and mixtures, by every schedule and trace."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from deqlight import ODETerm, solve
from deqlight.brownian import Key, keyed
from deqlight.controllers import PID, Constant
from deqlight.errors import InputError, ShapeError
from deqlight.fields import DenoisingMLP
from deqlight.gaussians import CHOOSING, Gaussian, GaussianMixture, mixtures
from deqlight.gradients import Checkpoint, Direct
from deqlight.nets import Exact, Hutchinson, Told, bits_per_dim, log_likelihood
from deqlight.schedules import EDM, VE, VP, Cosine, DDPMTable, RectifiedFlow, SubVP
from deqlight.solvers import AB2, RK4, Bosh3, Dopri5, Euler, Heun
from deqlight.terms import Denoising
from deqlight.terms.angular import Angular
from deqlight.terms.augmented import Augmented

pytestmark = pytest.mark.usefixtures("double")

TIGHT = PID(1e-8, 1e-8)
TOLERANCE = 1e-6  # of Dopri5 at 1e-8, over some hundred steps
PRIOR = 1e-5  # what the prior of a schedule without so much noise is off by, for data of mean 0 and variance 1
FAR = EDM(0.05, 1e7)  # so much noise that N(0, prior_std²) is the density there, to the mean over the noise
STEPS = Constant(steps=40)


def gaussian(size=3):
    root = torch.from_numpy(np.random.default_rng(7).standard_normal((size, size)))
    return Gaussian(torch.linspace(-1, 1, size), root @ root.mT + 0.1 * torch.eye(size))


TARGETS = {"Gaussian": gaussian(), "line": Gaussian([1.0], [[3.0]])} | {
    f"mixture in {size}": target for size, target in zip((2, 5, 16), mixtures(CHOOSING, (2, 5, 16)), strict=True)
}
SCHEDULES = [
    VP(beta_max=60.0, t_min=0.01),
    SubVP(beta_max=60.0, t_min=0.05),
    VE(0.05, 1e7),
    FAR,
    DDPMTable(beta_end=0.05),
    RectifiedFlow(margin=1e-7),
    RectifiedFlow(sigma_min=0.05, margin=1e-7),
]


def points(target, schedule, samples=6):
    """Points as there are at the clean end, in x."""
    low = schedule.rho_ends[1]
    x = target.sample(samples, np.random.default_rng(1))
    noise = torch.from_numpy(np.random.default_rng(2).standard_normal(x.shape))
    return schedule.scale(low) * (x + low * noise)


def known(target, schedule, x):
    low = schedule.rho_ends[1]
    scale = schedule.scale(low)
    return target.log_density(x / scale, low) - x.shape[1] * math.log(scale)


@pytest.mark.parametrize("name", TARGETS)
def test_the_density_is_the_known_one(name):
    target, x = TARGETS[name], points(TARGETS[name], FAR)
    found = log_likelihood(target.eps, FAR, x, controller=TIGHT)
    assert found.shape == (6,) and not found.requires_grad
    assert torch.allclose(found, known(target, FAR, x), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_all_schedules_tell_one_number(schedule):
    target = TARGETS["mixture in 5"]
    x = points(target, schedule)
    found = log_likelihood(target.eps, schedule, x, controller=TIGHT)
    assert torch.allclose(found, known(target, schedule, x), rtol=0, atol=TOLERANCE)


def test_the_published_ends_err_by_their_prior_alone():
    """N(0, 1) in the place of what data of another variance become: what is left of them is α² = 4e-5 of VP's."""
    target = Gaussian([0.5], [[0.25]])
    x, (high, low) = points(target, VP()), VP().rho_ends
    found = log_likelihood(target.eps, VP(), x, controller=TIGHT)
    x1 = VP().scale(high) * target.flow(low, high, x / VP().scale(low))
    there = target.log_density(x1 / VP().scale(high), high)[:, None] - math.log(VP().scale(high))
    missing = -0.5 * (x1.square() + math.log(2 * math.pi)) - there
    assert torch.allclose(found - known(target, VP(), x), missing[:, 0], rtol=0, atol=1e-7)
    assert 1e-6 < float(missing.abs().max()) < 1e-2


@pytest.mark.parametrize(
    ("solver", "order"), [(Euler(), 1), (Heun(), 2), (AB2(), 2), (Bosh3(), 3), (RK4(), 4)], ids=repr
)
def test_the_error_falls_at_the_order_of_the_solver(solver, order):
    target = TARGETS["mixture in 2"]
    x = points(target, FAR)

    def error(steps):
        found = log_likelihood(target.eps, FAR, x, solver=solver, controller=Constant(steps=steps))
        return float((found - known(target, FAR, x)).abs().mean())

    assert math.log2(error(80) / error(160)) == pytest.approx(order, abs=0.35)


@pytest.mark.parametrize("data_std", [0.3, 1.0, 4.0])
def test_the_deviation_changes_no_number(data_std):
    target = TARGETS["mixture in 2"]
    x = points(target, FAR)
    found = log_likelihood(target.eps, FAR, x, controller=TIGHT, data_std=data_std)
    assert torch.allclose(found, known(target, FAR, x), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("chunk", [1, 3, 16, 100])
def test_chunks_change_no_number(chunk):
    target = TARGETS["mixture in 16"]
    x = points(target, FAR)
    whole = log_likelihood(target.eps, FAR, x, solver=RK4(), controller=STEPS)
    found = log_likelihood(target.eps, FAR, x, solver=RK4(), controller=STEPS, trace=Exact(chunk))
    assert torch.allclose(found, whole, rtol=1e-12)


@pytest.mark.parametrize("law", ["rademacher", "normal"])
def test_estimates_are_unbiased(law):
    """The mean of 4000 directions, within five of its deviations; the state does not know of them."""
    target, count = gaussian(), 4000
    x = points(target, FAR, 1).expand(count, 3)
    whole = log_likelihood(target.eps, FAR, x[:1], solver=RK4(), controller=STEPS)
    found = log_likelihood(target.eps, FAR, x, solver=RK4(), controller=STEPS, trace=Hutchinson(law=law))
    apart = found - whole
    assert float(apart.std()) > 0.1  # covariance is not diagonal
    assert abs(float(apart.mean())) < 5 * float(apart.std()) / math.sqrt(count)


def test_signs_are_exact_for_diagonal_jacobians_and_normal_numbers_are_not():
    target = Gaussian([0.1, -0.2, 0.3], torch.diag(torch.tensor([0.1, 1.0, 3.0])).tolist())
    x = points(target, FAR)
    found = log_likelihood(target.eps, FAR, x, controller=TIGHT, trace=Hutchinson())
    assert torch.allclose(found, known(target, FAR, x), rtol=0, atol=TOLERANCE)
    normal = log_likelihood(target.eps, FAR, x, controller=TIGHT, trace=Hutchinson(law="normal"))
    assert float((normal - found).abs().max()) > 0.1


def test_more_draws_spread_less():
    target, count = gaussian(), 1000
    x = points(target, FAR, 1).expand(count, 3)
    spread = [
        float(log_likelihood(target.eps, FAR, x, solver=RK4(), controller=STEPS, trace=Hutchinson(draws)).std())
        for draws in (1, 16)
    ]
    assert spread[0] / spread[1] == pytest.approx(4.0, rel=0.2)  # five deviations of a deviation, of 1000


@pytest.mark.parametrize("trace", [Exact(), Hutchinson(2), Hutchinson(law="normal")], ids=repr)
@pytest.mark.parametrize("controller", [PID(1e-5, 1e-5), STEPS], ids=["PID", "Constant"])
def test_a_sample_s_number_does_not_depend_on_its_batch(trace, controller):
    target = TARGETS["mixture in 5"]
    x = points(target, FAR)
    x[0] *= 6.0  # takes steps of its own
    with keyed(Key(3, ids=torch.arange(6))):
        whole = log_likelihood(target.eps, FAR, x, trace=trace, controller=controller)
    for rows in ([2], [5, 0, 1]):
        with keyed(Key(3, ids=torch.tensor(rows))):
            some = log_likelihood(target.eps, FAR, x[rows], trace=trace, controller=controller)
        assert torch.allclose(some, whole[rows], rtol=1e-12)


def test_classes_stay_with_their_samples():
    """Each sample has its own clock, and leaves when it is done; the others keep their classes."""
    means, variances = torch.tensor([[-2.0, 0.0], [1.0, 1.0]]), torch.tensor([0.01, 1.0])
    labels = torch.tensor([0, 1, 1, 0, 1])

    def field(rho, y, labels):
        return rho * (y - means[labels]) / (variances[labels][:, None] + rho**2)

    spread = variances[labels][:, None].sqrt()
    x = means[labels] + spread * torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    found = log_likelihood(Told(field, labels), FAR, x, controller=TIGHT)
    low = FAR.rho_ends[1]
    for n, label in enumerate(labels.tolist()):
        component = Gaussian(means[label].tolist(), (float(variances[label]) * torch.eye(2)).tolist())
        assert float(found[n]) == pytest.approx(float(component.log_density(x[n : n + 1], low)), abs=TOLERANCE)


def test_images_are_points():
    """Any shape behind the batch; a float32 solve by a network, exact and by many signs."""
    net = DenoisingMLP(12, 16).float()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)

    def field(rho, y):
        inner = torch.atan(torch.as_tensor(rho, dtype=y.dtype)).reshape(-1)
        return net(inner, (y / (1 + torch.as_tensor(rho) ** 2) ** 0.5).flatten(1)).reshape(y.shape)

    x = torch.randn(4, 3, 2, 2, dtype=torch.float32)
    whole = log_likelihood(field, VP(), x, solver=RK4(), controller=Constant(steps=10))
    assert whole.dtype == torch.float64 and whole.shape == (4,)
    double = net.double() and log_likelihood(field, VP(), x.double(), solver=RK4(), controller=Constant(steps=10))
    assert torch.allclose(whole, double, rtol=1e-5)
    flat = log_likelihood(
        lambda rho, y: field(rho, y.reshape(-1, 3, 2, 2)).flatten(1),
        VP(),
        x.double().flatten(1),
        solver=RK4(),
        controller=Constant(steps=10),
    )
    assert torch.allclose(flat, double, rtol=1e-12)


@pytest.mark.parametrize("gradient", [Direct(), Checkpoint(budget=4)], ids=["Direct", "Checkpoint"])
@pytest.mark.parametrize("trace", [Exact(), Hutchinson(2)], ids=repr)
def test_gradients_are_there_where_they_are_asked_for(gradient, trace):
    field, x = Bent(), torch.tensor([[0.5, 0.1], [-1.0, 2.0]], requires_grad=True)
    leaves = (field.mean, x)

    def told(gradient):
        with keyed(Key(0)):
            options = {"solver": RK4(), "controller": STEPS, "trace": trace}
            return log_likelihood(field, EDM(0.05, 80.0), x, gradient=gradient, **options).sum()

    assert not told(None).requires_grad
    grads, step = torch.autograd.grad(told(gradient), leaves), 1e-5
    for leaf, grad in zip(leaves, grads, strict=True):
        ends = []
        for sign in (1, -2):  # to one side, and from there to the other
            with torch.no_grad():
                leaf += sign * step
            ends.append(float(told(None)))
        with torch.no_grad():
            leaf += step
        assert float(grad.sum()) == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-6)


class Bent(nn.Module):
    """Not linear, its Jacobian not diagonal."""

    def __init__(self):
        super().__init__()
        self.mean = nn.Parameter(torch.tensor([0.3, -0.4]))
        self.precision = torch.tensor([[2.0, 0.5], [0.5, 1.0]])

    def forward(self, rho, y):
        near = (y - self.mean) @ self.precision
        return rho * near / (1 + rho**2) + 0.1 * rho * torch.tanh(near) / (1 + rho**3)


def test_no_grad_and_inference_change_nothing():
    target = TARGETS["mixture in 2"]
    x = points(target, FAR)
    plain = log_likelihood(target.eps, FAR, x)
    with torch.no_grad():
        assert torch.equal(log_likelihood(target.eps, FAR, x), plain)
    with torch.inference_mode():
        assert torch.equal(log_likelihood(target.eps, FAR, x.clone()), plain)


def test_half_the_evaluations_of_a_solve_in_rho():
    """What `Angular` is for, at the published tolerances: the same solve in ρ and in log ρ takes twice as many."""
    target, calls = TARGETS["mixture in 5"], []

    def counted(rho, y):
        calls.append(len(y))
        return target.eps(rho, y)

    x, (high, low) = points(target, VP()), VP().rho_ends
    log_likelihood(counted, VP(), x)
    term = Augmented(ODETerm(target.eps), Exact().rates(create_graph=False), single=True)
    start = (x / VP().scale(low), x.new_zeros(6, 1))
    plain = solve(term, start, [low, high], solver=Dopri5(), controller=PID(1e-5, 1e-5))
    assert sum(calls) < 0.6 * int(plain.stats.nfe.sum())


def test_the_angle_is_that_between_data_and_noise():
    flow = Angular(Denoising(TARGETS["mixture in 2"].eps), 0.5)
    assert flow.angle(0.5) == pytest.approx(math.pi / 4) and flow.size(0.0) == 0.5
    u, angle = torch.randn(4, 2), flow.angle(2.0)
    slope = flow.vf(angle, u)
    data = TARGETS["mixture in 2"].data(2.0, u * flow.size(2.0))
    eps = TARGETS["mixture in 2"].eps(2.0, u * flow.size(2.0))
    assert torch.allclose(slope, math.cos(angle) * eps - math.sin(angle) * data / 0.5)  # v
    assert torch.allclose(flow.vf(torch.full((4, 1), angle), u), slope)


def test_bits_of_levels():
    """The offsets of the usual scales, and the levels' own cost: those of a uniform density are eight bits."""
    dims = 3 * 32 * 32
    uniform = torch.tensor(-dims * math.log(2.0))  # on [-1, 1]
    assert float(bits_per_dim(uniform, dims)) == pytest.approx(8.0)
    assert float(bits_per_dim(torch.tensor(0.0), dims, 1 / 256)) == pytest.approx(8.0)  # on [0, 1]
    assert float(bits_per_dim(torch.tensor(-math.log(2.0)), 1, 1.0)) == pytest.approx(1.0)
    with pytest.raises(InputError, match="dims=0"):
        bits_per_dim(uniform, 0)
    with pytest.raises(InputError, match="width=0"):
        bits_per_dim(uniform, 1, 0.0)


def test_what_makes_no_sense_is_refused():
    target = TARGETS["mixture in 2"]
    for x in (torch.zeros(2), torch.zeros(2, 2, dtype=torch.int64), [[0.0]]):
        with pytest.raises(ShapeError, match="log_likelihood got"):
            log_likelihood(target.eps, FAR, x)
    with pytest.raises(InputError, match="data_std"):
        log_likelihood(target.eps, FAR, torch.zeros(1, 2), data_std=0.0)
    with pytest.raises(InputError, match="cut off from y"):
        log_likelihood(lambda rho, y: target.eps(rho, y.detach()), FAR, torch.zeros(1, 2))
    with pytest.raises(InputError, match="draws=0"):
        Hutchinson(0)
    with pytest.raises(InputError, match="law"):
        Hutchinson(law="cauchy")
    with pytest.raises(InputError, match="chunk=0"):
        Exact(0)


def test_the_cosine_schedule_goes_too():
    target = GaussianMixture([0.5, 0.5], [[1.0], [-1.0]], [0.04, 0.09])
    x = points(target, Cosine())
    found = log_likelihood(target.eps, Cosine(), x, solver=Dopri5(), controller=TIGHT)
    assert torch.allclose(found, known(target, Cosine(), x), rtol=0, atol=PRIOR)
