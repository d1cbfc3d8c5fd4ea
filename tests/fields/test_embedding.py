"""Noise labels as vectors: their formulas, in every precision, and all the ways to say a label."""

import copy
import math
import pickle

import pytest
import torch

from deqlight.errors import InputError, ShapeError
from deqlight.fields import FourierFeatures, SinusoidalFeatures, TimeEmbedding

ROUNDING = 1e-12  # of float64
PHASE = 1e-3  # of float32: the phases go to 1000, where neighbouring numbers are 6e-5 apart


def test_sines_and_cosines_are_those_of_the_paper(double):
    t = torch.tensor([0.0, 1.0, 17.0, 999.0])
    got = SinusoidalFeatures(8, scale=1.0)(t)
    for i, label in enumerate(t.tolist()):
        for k in range(4):
            phase = label * 10_000.0 ** (-k / 3)
            assert got[i, k] == pytest.approx(math.sin(phase), abs=ROUNDING)
            assert got[i, 4 + k] == pytest.approx(math.cos(phase), abs=ROUNDING)
    assert torch.allclose(SinusoidalFeatures(8, scale=1000.0)(t / 1000.0), got, atol=ROUNDING)


def test_the_slowest_wave_is_longer_by_the_period(double):
    t = torch.tensor([0.5])
    assert SinusoidalFeatures(6, scale=2.0, period=64.0)(t)[0, 2] == pytest.approx(math.sin(1.0 / 64.0), rel=ROUNDING)


def test_fourier_features_are_waves_of_their_frequencies(double):
    features = FourierFeatures(10, scale=3.0)
    t = torch.tensor([-0.7, 0.2])
    phases = 2.0 * math.pi * t[:, None] * features.frequencies.double()
    assert torch.allclose(features(t), torch.cat([phases.sin(), phases.cos()], 1), atol=ROUNDING)


def test_frequencies_have_their_law_and_are_saved():
    n = 40_000
    features = FourierFeatures(2 * n, scale=16.0)
    w = features.frequencies
    assert abs(float(w.mean())) < 5 * 16.0 / n**0.5
    assert abs(float(w.std()) / 16.0 - 1.0) < 5 / (2 * n) ** 0.5
    other = FourierFeatures(2 * n, scale=16.0)
    assert not torch.equal(other.frequencies, w)
    other.load_state_dict(features.state_dict())
    assert torch.equal(other.frequencies, w)
    assert not list(features.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("features", [SinusoidalFeatures, FourierFeatures])
def test_features_are_exact_in_a_network_of_half_precision(features, dtype):
    """The network is cast, its frequencies too if they could be; what the layers see is the true features, rounded."""
    embedding = TimeEmbedding(16, 8, features)
    t = torch.linspace(0.0, 1.0, 1001)
    exact = embedding.features(t.double())
    halved = copy.deepcopy(embedding).to(dtype)
    seen = []
    halved.first.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    assert halved(t).dtype == dtype
    assert seen[0].dtype == dtype
    assert (seen[0].double() - exact).abs().max() < torch.finfo(dtype).eps + PHASE
    assert len(torch.unique(seen[0], dim=0)) > 900  # in half precision from the start, neighbours would be one


def test_half_precision_by_autocast_keeps_the_features():
    embedding, t, seen = TimeEmbedding(16, 8), torch.linspace(0.0, 1.0, 101), []
    embedding.first.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with torch.autocast("cpu", torch.bfloat16):
        assert embedding(t).dtype == torch.bfloat16
    assert seen[0].dtype == torch.float32
    assert torch.equal(seen[0], embedding.features(t))


def test_a_label_is_said_in_many_ways(double):
    embedding = TimeEmbedding(8, 5)
    t = torch.tensor([0.3, 0.3, 0.3])
    wanted = embedding(t)
    assert wanted.shape == (3, 5)
    for label in (0.3, torch.tensor(0.3), torch.tensor([0.3]), torch.tensor([[0.3]])):
        assert torch.allclose(embedding(label), wanted[:1], rtol=ROUNDING)
    assert torch.equal(embedding(t.reshape(3, 1, 1, 1)), wanted)
    steps = TimeEmbedding(8, 5, lambda n: SinusoidalFeatures(n, scale=1.0))
    assert torch.allclose(steps(7), steps(torch.tensor([7])), atol=1e-6)  # the features of whole numbers are in float32


def test_the_layers_are_two_with_silu_between(double):
    embedding, t = TimeEmbedding(8, 5), torch.rand(3)
    hidden = embedding.features(t) @ embedding.first.weight.T + embedding.first.bias
    hidden = hidden / (1.0 + torch.exp(-hidden))
    assert torch.allclose(embedding(t), hidden @ embedding.last.weight.T + embedding.last.bias, atol=ROUNDING)
    assert sum(p.numel() for p in embedding.parameters()) == (8 + 1) * 5 + (5 + 1) * 5


def test_a_label_may_need_a_gradient(double):
    embedding, t = TimeEmbedding(8, 5, lambda n: FourierFeatures(n, 0.3)), torch.rand(3, requires_grad=True)
    assert torch.autograd.gradcheck(embedding, (t,))


def test_copies_are_the_same():
    embedding, t = TimeEmbedding(8, 5, FourierFeatures), torch.rand(3)
    for other in (copy.deepcopy(embedding), pickle.loads(pickle.dumps(embedding))):
        assert torch.equal(other(t), embedding(t))


@pytest.mark.parametrize("make", [SinusoidalFeatures, FourierFeatures])
def test_what_cannot_be_is_refused(make):
    for channels in (0, 2, 5):
        with pytest.raises(InputError, match=f"channels={channels}; it needs an even number"):
            make(channels)
    for scale in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(InputError, match="scale="):
            make(8, scale)
    with pytest.raises(InputError, match="period=0"):
        SinusoidalFeatures(8, period=0.0)


def test_labels_are_one_a_sample():
    with pytest.raises(ShapeError, match=r"\(4, 2\); it needs \(batch,\) or \(batch, 1, …\)"):
        TimeEmbedding(8, 5)(torch.rand(4, 2))
