"""Networks that say several things: draws and ensembles."""

import pytest
import torch
from torch import nn

from deqlight.brownian import Key, keyed, next_stream, redrawn
from deqlight.controllers import Constant
from deqlight.errors import InputError
from deqlight.fields import MLP, AdditiveDiffusion
from deqlight.metrics import Predictive
from deqlight.nets import DepthNet, Draws, Ensemble, StochasticStage
from deqlight.solvers import Euler


def noisy(sigma=0.5):
    stage = StochasticStage(
        MLP, lambda channels: AdditiveDiffusion(channels, sigma), 4, noise="additive", calculus="ito"
    )
    return DepthNet(nn.Linear(2, 4), [stage], nn.Linear(4, 3), solver=Euler(), controller=Constant(steps=4))


def test_another_draw_is_another_stream_and_the_first_is_the_plain_one():
    like = torch.zeros(3, 2)
    with keyed(Key(seed=1, step=5)):
        plain = next_stream().normal(1, like)
        drawn = []
        for draw in (0, 1, 0):
            with redrawn(draw):
                drawn.append(next_stream().normal(1, like))
        after = next_stream().normal(1, like)
    assert torch.equal(drawn[0], plain) and torch.equal(drawn[2], plain)
    assert not torch.equal(drawn[1], plain) and not torch.equal(after, plain)
    with keyed(Key(seed=1, step=5, draw=1)):
        assert torch.equal(next_stream().normal(1, like), drawn[1])


def test_outside_of_a_key_draws_differ():
    with redrawn(0):
        one = next_stream().normal(1, torch.zeros(2, 2))
    with redrawn(0):
        assert not torch.equal(next_stream().normal(1, torch.zeros(2, 2)), one)


def test_draws_are_several_in_evaluation_and_one_in_training():
    net, x = Draws(noisy(), draws=5), torch.randn(7, 2)
    assert net.passes(x).shape == (1, 7, 3)
    passes = net.eval().passes(x)
    assert passes.shape == (5, 7, 3)
    assert passes.std(0).min() > 1e-4


def test_the_first_draw_is_what_the_network_says():
    net, x = Draws(noisy(), draws=3).eval(), torch.randn(7, 2)
    with keyed(Key(seed=0)):
        passes = net.passes(x)
    with keyed(Key(seed=0)):
        assert torch.equal(net.net(x), passes[0])


@pytest.mark.parametrize("batch", [1, 2, 5, 16, 31])
def test_a_sample_s_draws_do_not_depend_on_its_batch(double, batch):
    """Bit by bit, as far as the machine's own products do not: those of a single row may differ in the last bit."""
    net, x, ids = Draws(noisy(), draws=3).eval(), torch.randn(31, 2), torch.randperm(1000)[:31]
    with torch.no_grad():
        with keyed(Key(seed=0, ids=ids)):
            whole = net.passes(x)
        parts = []
        for inputs, own in zip(x.split(batch), ids.split(batch), strict=True):
            with keyed(Key(seed=0, ids=own)):
                parts.append(net.passes(inputs))
    assert torch.allclose(torch.cat(parts, 1), whole, rtol=0, atol=1e-15 * 32)


def test_a_score_is_the_logarithm_of_the_mean_probability(double):
    net, x = Ensemble([nn.Linear(2, 3) for _ in range(4)]), torch.randn(6, 2)
    assert torch.allclose(net(x).exp(), Predictive(net.passes(x)).probabilities)
    assert torch.allclose(net(x).softmax(1), net(x).exp())


def test_members_say_what_they_say_alone():
    members = [nn.Linear(2, 3) for _ in range(4)]
    x = torch.randn(6, 2)
    assert torch.equal(Ensemble(members).passes(x)[2], members[2](x))


def test_the_moments_converge_to_those_of_the_noise(double):
    """Of scores with additive noise the predictive variance is that of a normal number pushed through softmax."""
    sigma, draws = 0.7, 4000
    stage = StochasticStage(
        lambda channels: MLP(channels, depth=0), lambda c: AdditiveDiffusion(c, sigma), 2, "additive", "ito"
    )
    for parameter in stage.term.f.parameters():
        nn.init.zeros_(parameter)
    net = Draws(DepthNet(nn.Identity(), [stage], nn.Identity(), solver=Euler()), draws).eval()
    x = torch.tensor([[0.3, 0.0]])
    with torch.no_grad(), keyed(Key(seed=0)):
        said = Predictive(net.passes(x))
    p = (0.3 + sigma * 2**0.5 * torch.randn(1_000_000)).sigmoid()  # the difference of two scores
    error = p.std() / draws**0.5
    assert abs(said.probabilities[0, 0] - p.mean()) < 5 * error
    assert said.variance[0, 0].item() == pytest.approx(p.var().item(), rel=0.15)  # 5 standard errors of a variance


def test_what_cannot_be():
    with pytest.raises(InputError, match="draws=0"):
        Draws(nn.Linear(2, 2), 0)
    with pytest.raises(InputError, match="0 members"):
        Ensemble([])
    one = nn.Linear(2, 2)
    with pytest.raises(InputError, match="a network of its own"):
        Ensemble([one, one])
