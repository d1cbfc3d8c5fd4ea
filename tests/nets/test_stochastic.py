"""Neural SDEs: the stage, its kinds of noise, and the growth of a linear one."""

from functools import partial

import pytest
import torch
from torch import nn

from deqlight import solve
from deqlight.brownian import Increments, Key, keyed
from deqlight.controllers import Constant
from deqlight.errors import InputError
from deqlight.fields import MLP, AdditiveDiffusion, ConcatConv, MatrixDiffusion, MultiplicativeDiffusion
from deqlight.nets import Augment, ContinuousStage, DepthNet, StochasticStage
from deqlight.regularizers import Dropout, GaussianNoise
from deqlight.solvers import Euler, Heun, LogODE, Milstein

A, SIGMA, TIME, PATHS = 0.5, 0.8, 4.0, 4000
STANDARD_ERRORS = 5.0


class Linear(nn.Module):
    """F = a y."""

    def __init__(self, channels):
        super().__init__()

    def forward(self, t, y):
        return A * y


def multiplicative(calculus):
    return StochasticStage(
        Linear, partial(MultiplicativeDiffusion, sigma=SIGMA), 1, noise="diagonal", calculus=calculus, time=TIME
    )


def growth(stage, solver, steps):
    """The mean of log|u(T)/u(0)|/T over many paths, and its standard error."""
    y0 = torch.ones(PATHS, 1)
    with keyed(Key(seed=0)), torch.no_grad():
        y1 = solve(stage.term, stage.enter(y0), stage.ts, solver=solver, controller=Constant(steps=steps)).y1
    rates = y1.abs().log() / TIME
    return rates.mean().item(), (rates.std() / PATHS**0.5).item()


@pytest.mark.parametrize(
    ("calculus", "solver", "steps", "rate", "bias"),
    [
        ("ito", Milstein(), 400, A - SIGMA**2 / 2, 2e-3),
        ("ito", Euler(), 1600, A - SIGMA**2 / 2, 2e-3),  # biased by a multiple of the step, here about 1e-3
        ("stratonovich", Heun(), 400, A, 2e-3),
    ],
)
def test_a_linear_equation_grows_as_it_must(double, calculus, solver, steps, rate, bias):
    """The Lyapunov exponent of du = a u dt + σ u dB is a − σ²/2 in Itô's sense, and a in Stratonovich's."""
    found, error = growth(multiplicative(calculus), solver, steps)
    assert abs(found - rate) < STANDARD_ERRORS * error + bias
    assert abs(A - (A - SIGMA**2 / 2)) > 5 * (STANDARD_ERRORS * error + bias)  # so close that the two are told apart


def test_noise_stabilises_what_grows_without(double):
    """Liu et al. 2019: σ² > 2 L makes perturbations die out; here L = 1/2 and σ = 1.5."""
    stage = StochasticStage(
        Linear, partial(MultiplicativeDiffusion, sigma=1.5), 1, noise="diagonal", calculus="ito", time=TIME
    )
    found, error = growth(stage, Milstein(), 400)
    assert found < -STANDARD_ERRORS * error < 0 < A


KINDS = {
    "additive": (AdditiveDiffusion, {"noise": "additive"}),
    "multiplicative": (MultiplicativeDiffusion, {"noise": "diagonal"}),
    "general": (partial(MatrixDiffusion, sources=3, block=MLP), {"noise": "general", "sources": 3}),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("calculus", "solver"), [("ito", Euler()), ("stratonovich", Heun()), ("stratonovich", LogODE())]
)
def test_each_noise_moves_each_sample_on_its_own_way(kind, calculus, solver):
    diffusion, words = KINDS[kind]
    if kind != "general" and isinstance(solver, LogODE):
        pytest.skip("for general noise")
    stage = StochasticStage(MLP, diffusion, 4, calculus=calculus, **words)
    net = DepthNet(nn.Linear(2, 4), [stage], nn.Linear(4, 3), solver=solver, controller=Constant(steps=5))
    x = torch.randn(1, 2).expand(6, 2)
    with keyed(Key(seed=0)):
        one = net(x)
        two = net(x)
    with keyed(Key(seed=0)):
        again = net(x)
    assert torch.equal(one, again)
    assert (one[0] - one[1]).abs().max() > 1e-4 and (one - two).abs().max() > 1e-4
    net.eval()
    with keyed(Key(seed=0)):
        assert torch.equal(net(x), one)  # the noise goes on in evaluation
    one.sum().backward()
    assert all(p.grad is not None for p in net.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    "regularizer",
    [
        Dropout(p=0.2, noise="gaussian", scaling="sde", at_test=True),
        GaussianNoise(sigma=0.3, proportional="state", noise="gaussian", scaling="sde", at_test=True),
    ],
)
def test_noise_made_of_the_drift_costs_nothing_more_and_may_end_with_the_training(regularizer):
    from deqlight import record

    quiet = type(regularizer)(**{**vars(regularizer), "at_test": False})
    nets = []
    for value in (regularizer, quiet):
        torch.manual_seed(0)
        options = {"solver": Euler(), "controller": Constant(steps=4), "regularizers": [value]}
        nets.append(DepthNet(nn.Identity(), [ContinuousStage(MLP, 3)], nn.Identity(), **options).eval())
    x = torch.randn(1, 3).expand(5, 3)
    with keyed(Key(seed=0)), record() as solves:
        noisy, calm = (net(x) for net in nets)
    assert (noisy[0] - noisy[1]).abs().max() > 1e-3
    assert torch.equal(calm[0], calm[1])
    assert solves[0].nfe.tolist() == [4] * 5


def test_multiplicative_noise_is_that_of_the_regulariser(double):
    """Two ways to one equation."""
    torch.manual_seed(0)
    stage = StochasticStage(
        MLP, partial(MultiplicativeDiffusion, sigma=0.3), 3, noise="diagonal", calculus="ito", brownian=Increments()
    )
    other = ContinuousStage(lambda channels: stage.term.f.field, 3)
    value = GaussianNoise(sigma=0.3, proportional="state", noise="gaussian", scaling="sde", at_test=True)
    options = {"solver": Euler(), "controller": Constant(steps=4)}
    x = torch.randn(5, 3)
    found = []
    for net in (
        DepthNet(nn.Identity(), [stage], nn.Identity(), **options),
        DepthNet(nn.Identity(), [other], nn.Identity(), regularizers=[value], **options),
    ):
        with keyed(Key(seed=0)):
            found.append(net(x))
    assert torch.allclose(*found, atol=1e-12)


def test_images_and_lifts():
    stage = StochasticStage(
        ConcatConv, AdditiveDiffusion, 4, noise="additive", calculus="ito", lift=Augment(channels=2), time=2.0
    )
    net = DepthNet(nn.Identity(), [stage], nn.Identity(), solver=Euler(), controller=Constant(steps=2))
    assert net(torch.randn(2, 4, 3, 3)).shape == (2, 4, 3, 3)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"noise": "general", "calculus": "ito"}, "general noise needs channels"),
        ({"noise": "purple", "calculus": "ito"}, "noise='purple'"),
        ({"noise": "additive", "calculus": "platonic"}, "calculus='platonic'"),
    ],
)
def test_what_cannot_be(words, told):
    with pytest.raises(InputError, match=told):
        StochasticStage(MLP, AdditiveDiffusion, 4, **words)


def test_the_solver_must_know_the_calculus():
    stage = StochasticStage(MLP, MultiplicativeDiffusion, 4, noise="diagonal", calculus="stratonovich")
    with pytest.raises(InputError, match="in the sense of ito"):
        DepthNet(nn.Identity(), [stage], nn.Identity(), solver=Euler())


def test_multiplicative_noise_is_not_additive():
    stage = StochasticStage(MLP, MultiplicativeDiffusion, 4, noise="additive", calculus="ito")
    net = DepthNet(nn.Identity(), [stage], nn.Identity(), solver=Euler())
    with pytest.raises(InputError, match="says that its noise is additive"):
        net(torch.randn(2, 4))
