"""What a network tells of noisy data, what it is trained by, and which noise it is shown with which data."""

import itertools
from functools import partial

import pytest
import torch
from torch import nn

from deqlight.brownian import Key, keyed, next_stream
from deqlight.errors import InputError
from deqlight.fields import DenoisingMLP
from deqlight.gaussians import GaussianMixture
from deqlight.nets import Denoiser, DenoisingLoss, Independent, OptimalTransport, Sampler
from deqlight.schedules import (
    EDM,
    VE,
    VP,
    Cosine,
    LogNormalDraw,
    LogSNRDraw,
    Preconditioned,
    RectifiedFlow,
    SubVP,
    UniformLogSNR,
    target,
)
from deqlight.solvers import DDIM, RK4, DPMpp2M, UniPC

ROUNDING = 1e-11  # relative, of differences of what large noise makes large
KINDS = ("eps", "x0", "v", "score", "velocity", Preconditioned(0.8))
SCHEDULES = [VP(), SubVP(), VE(), Cosine(), EDM(), RectifiedFlow()]
TRUTH = GaussianMixture([0.3, 0.7], [[1.0, 0.5], [-0.8, 0.2]], [0.1, 0.3])


def kind_name(kind):
    return kind if isinstance(kind, str) else "edm"


def name(value):
    return type(value).__name__


class Knowing(nn.Module):
    """Tells exactly what a network of a kind should."""

    def __init__(self, kind, schedule):
        super().__init__()
        self.kind, self.schedule = kind, schedule

    def forward(self, label, shown):
        schedule = self.schedule
        if isinstance(self.kind, Preconditioned):
            rho = torch.exp(4 * self._beside(label, shown))
            y = shown / self.kind.c_in(rho)
            return self.kind.target(TRUTH.data(self._level(rho, y), y), y, rho)
        t = self._beside(label, shown)
        x = shown * (schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2) ** 0.5
        rho, y = schedule.rho(t), x / schedule.alpha(t)
        level = self._level(rho, y)
        return target(self.kind, TRUTH.data(level, y), TRUTH.eps(level, y), t, schedule)

    def _beside(self, label, shown):
        label = torch.as_tensor(label, dtype=shown.dtype)
        return label.reshape(-1, 1) if label.dim() else label

    def _level(self, rho, y):
        return float(rho) if rho.dim() == 0 else rho.reshape(-1, 1)


def knowing(kind, schedule):
    return Denoiser(Knowing(kind, schedule), schedule, kind)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=name)
@pytest.mark.parametrize("kind", KINDS, ids=kind_name)
def test_noise_and_data_follow_from_what_is_told(kind, schedule):
    y = 2 * torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    denoiser = knowing(kind, schedule)
    for rho in (0.3, 1.7):
        assert torch.allclose(denoiser.eps(rho, y), TRUTH.eps(rho, y), rtol=ROUNDING, atol=ROUNDING)
        assert torch.allclose(denoiser.data(rho, y), TRUTH.data(rho, y), rtol=ROUNDING, atol=ROUNDING)
    own = torch.full((6, 1), 0.9, dtype=torch.float64)
    assert torch.allclose(denoiser.data(own, y), TRUTH.data(0.9, y), rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("solver", [DDIM(), DPMpp2M(), UniPC(3), RK4()], ids=repr)
def test_all_predictions_give_one_trajectory(solver):
    noise = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    schedule = VP(t_min=0.02)
    first, *others = (Sampler(solver, 12)(knowing(kind, schedule), noise).x for kind in KINDS)
    assert all(torch.allclose(first, other, rtol=0, atol=1e-12) for other in others)


@pytest.mark.parametrize("kind", KINDS, ids=kind_name)
def test_the_velocity_is_that_of_the_flow(kind):
    schedule, t = VP(), 0.4
    x = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    exact = target("velocity", TRUTH.data(schedule.rho(t), x / schedule.alpha(t)),
                   TRUTH.eps(schedule.rho(t), x / schedule.alpha(t)), t, schedule)  # fmt: skip
    assert torch.allclose(knowing(kind, schedule).velocity(t, x), exact, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=name)
@pytest.mark.parametrize("kind", KINDS, ids=kind_name)
def test_the_gain_is_how_far_an_error_reaches(kind, schedule):
    t = schedule.time(torch.tensor([0.2, 1.0, 3.0], dtype=torch.float64))
    y = torch.randn(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    denoiser, rho = knowing(kind, schedule), schedule.rho(t).reshape(-1, 1)
    before, told = denoiser.eps(rho, y), denoiser.net
    denoiser.net = Off(told)
    moved = (denoiser.eps(rho, y) - before)[:, 0]
    assert torch.allclose(moved.abs(), denoiser.gain(t).abs(), rtol=1e-9)


class Off(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, label, shown):
        return self.net(label, shown) + 1.0


def losses(denoiser, loss, x0, ids=None, step=0):
    with keyed(Key(7, step, ids)):
        return loss(denoiser, x0)


@pytest.mark.parametrize("weight", ["noise", "likelihood", "min_snr"])
def test_weighted_losses_are_of_the_noise_whatever_is_told(weight):
    x0 = torch.randn(64, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    schedule, loss = VP(), DenoisingLoss(LogSNRDraw(), weight)
    first, *others = (losses(knowing(kind, schedule), loss, x0) for kind in KINDS)
    assert all(torch.allclose(first, other, rtol=1e-4) for other in others)  # the difference is taken in float32


def test_ddpm_and_edm_and_flows_by_their_formulas():
    x0 = torch.randn(32, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    with keyed(Key(7)):
        stream = next_stream()
        u, eps = stream.uniform(1, x0.new_empty(32))[:, 0], stream.normal(1, x0)[:, 0]
    t = (0.001 + u * 0.999)[:, None]
    a, s = VP().alpha(t), VP().sigma(t)
    wanted = (TRUTH.eps(s / a, (a * x0 + s * eps) / a) - eps).square().mean(1)
    assert torch.allclose(losses(knowing("eps", VP()), DenoisingLoss(), x0).double(), wanted, rtol=1e-5)

    sigma = LogNormalDraw().times(u, EDM())[:, None]
    weight = (sigma**2 + 0.5**2) / (sigma * 0.5) ** 2
    wanted = (weight * (TRUTH.data(sigma, x0 + sigma * eps) - x0).square()).mean(1)
    found = losses(knowing(Preconditioned(0.5), EDM()), DenoisingLoss(LogNormalDraw()), x0)
    assert torch.allclose(found.double(), wanted, rtol=1e-3)  # F in float32

    t = u[:, None]
    x = (1 - t) * x0 + t * eps
    velocity = TRUTH.eps(t / (1 - t), x / (1 - t)) - TRUTH.data(t / (1 - t), x / (1 - t))
    found = losses(knowing("velocity", RectifiedFlow()), DenoisingLoss(), x0)
    assert torch.allclose(found.double(), (velocity - (eps - x0)).square().mean(1), rtol=1e-4)


def test_a_sample_sees_the_same_in_any_batch():
    x0 = torch.randn(9, 2, generator=torch.Generator().manual_seed(6))
    torch.manual_seed(0)
    denoiser, ids = Denoiser(DenoisingMLP(2, 16, 1), VP()), torch.arange(40, 49)
    together = losses(denoiser, DenoisingLoss(), x0, ids)
    alone = losses(denoiser, DenoisingLoss(), x0[4:5], ids[4:5])
    assert torch.allclose(together[4:5], alone, rtol=1e-6)
    assert not torch.equal(together, losses(denoiser, DenoisingLoss(), x0, ids, step=1))


def test_importance_divides_by_the_density():
    x0 = torch.randn(9, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    denoiser, draw = knowing("eps", VP()), LogSNRDraw()
    plain, weighed = (losses(denoiser, DenoisingLoss(draw, importance=flag), x0) for flag in (False, True))
    with keyed(Key(7)):
        t = draw.times(next_stream().uniform(1, x0.new_empty(9))[:, 0], VP())
    assert torch.allclose(plain / draw.density(t, VP()), weighed)


def test_transport_is_the_best_of_all_pairings():
    generator = torch.Generator().manual_seed(8)
    x0, eps = (torch.randn(6, 3, generator=generator) for _ in range(2))
    paired = OptimalTransport().paired(x0, eps)
    costs = {order: float((x0 - eps[list(order)]).square().sum()) for order in itertools.permutations(range(6))}
    assert float((x0 - paired).square().sum()) == pytest.approx(min(costs.values()), rel=1e-6)
    assert torch.equal(paired.sort(0).values, eps.sort(0).values)
    assert torch.equal(Independent().paired(x0, eps), eps)


def test_transport_without_its_library_names_the_extra(monkeypatch):
    monkeypatch.setattr("deqlight.nets.coupling.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"deqlight\[transport\]"):
        OptimalTransport()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (partial(Denoiser, nn.Identity(), VP(), "noise"), "prediction='noise'"),
        (partial(DenoisingLoss, weight="snr"), "weight='snr'"),
        (partial(DenoisingLoss, draw="even"), "draw='even'"),
        (partial(Sampler, DDIM(), steps=0), "steps=0"),
        (partial(Sampler, DDIM(), variable="x"), "variable='x'"),
        (partial(Sampler, RK4(), grid=UniformLogSNR(), variable="t"), "variable='t'"),
        (partial(Sampler, DDIM(), variable="t"), "DDIM, which integrates Denoising, .* samples are made of ODETerm"),
    ],
    ids=["prediction", "weight", "draw", "steps", "variable", "grid", "term"],
)
def test_what_makes_no_sense_is_refused(make, words):
    with pytest.raises(InputError, match=words):
        make()
