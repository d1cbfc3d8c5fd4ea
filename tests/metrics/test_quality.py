"""How good samples are, where the answer is known: shifts, normal distributions, subsets, equal distributions."""

import math
import pickle

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch
from torch import nn

from deqlight.errors import InputError, ShapeError
from deqlight.metrics import MMD, FrechetDistance, PrecisionRecall, SlicedWasserstein, frechet
from deqlight.metrics.mmd import median_distance
from deqlight.metrics.two_samples import distances

ROUNDING = 1e-12
SIGMAS = 5.0

KINDS = {
    "W1": lambda: SlicedWasserstein(projections=20, p=1),
    "W2": lambda: SlicedWasserstein(projections=20),
    "MMD": MMD,
    "PR": PrecisionRecall,
    "Frechet": lambda: FrechetDistance(3),
}


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


def measured(metric, real, generated, batch=1000):
    for samples, truth in ((real, True), (generated, False)):
        for part in samples.split(batch):
            metric.update(part, real=truth)
    return metric.compute()


def numbers(found):
    return [value.item() for value in (found.values() if isinstance(found, dict) else [found])]


def normal(samples, channels=3, seed=0, shift=0.0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((samples, channels))) + shift


@pytest.mark.parametrize("p", [1, 2])
def test_on_a_line_a_shift_is_the_distance(p):
    x = normal(100, 1)
    assert numbers(measured(SlicedWasserstein(p=p), x, x.flip(0) + 0.7)) == [pytest.approx(0.7, abs=ROUNDING)]


@pytest.mark.parametrize(("n", "m"), [(100, 37), (30, 90), (1, 8), (5, 5)])
def test_unequal_numbers_of_samples_share_their_mass(n, m):
    one, other = normal(n, 1), normal(m, 1, seed=1, shift=0.4)
    exact = scipy.stats.wasserstein_distance(one[:, 0], other[:, 0])
    assert numbers(measured(SlicedWasserstein(p=1), one, other)) == [pytest.approx(exact, abs=ROUNDING)]
    copies = measured(SlicedWasserstein(p=2), one.repeat_interleave(m, 0), other.repeat_interleave(n, 0))
    assert numbers(measured(SlicedWasserstein(p=2), one, other)) == [pytest.approx(copies.item(), abs=ROUNDING)]


def test_in_the_plane_lines_see_half_of_a_squared_shift():
    x, shift = normal(50, 2), torch.tensor([3.0, 4.0]).double()
    found = measured(SlicedWasserstein(projections=4000), x, x + shift).item()
    # cos² of an even angle has mean ½ and variance ⅛
    assert found**2 == pytest.approx(25 / 2, abs=SIGMAS * 25 * (1 / 8 / 4000) ** 0.5)


def test_lines_belong_to_their_seed():
    x, y = normal(60, 5), normal(60, 5, seed=1)
    one, same, other = (numbers(measured(SlicedWasserstein(8, seed), x, y)) for seed in (0, 0, 1))
    assert one == same != other


def test_wasserstein_of_normal_samples_approaches_their_distance():
    x, y = normal(20_000, 1), 2 * normal(30_000, 1, seed=1, shift=0.5)
    assert measured(SlicedWasserstein(8), x, y).item() == pytest.approx(math.hypot(1.0, 1.0), abs=0.05)


def test_mmd_of_equal_distributions_is_zero_in_the_mean():
    """Below zero as often as above: two hundred pairs of sets, and their mean within five deviations."""
    metric, found = MMD(bandwidth=1.0), []
    for seed in range(200):
        rng = np.random.default_rng([seed, 7])
        x, y = (torch.from_numpy(rng.standard_normal((n, 2))) for n in (20, 30))
        found.append(metric.measure(x, y).item())
    assert abs(np.mean(found)) < SIGMAS * np.std(found) / len(found) ** 0.5
    assert 50 < sum(value < 0 for value in found) < 190  # skewed, not biased
    biased = np.mean(found) + (1 / 20 + 1 / 30) * 0.5  # what pairs of a sample with itself would add, roughly
    assert abs(biased) > SIGMAS * np.std(found) / len(found) ** 0.5


def test_mmd_of_two_normal_distributions_has_a_closed_form():
    """In one dimension E k = h / √(h² + 2) for equal ones, with exp(−Δ² / 2 (h² + 2)) for those Δ apart."""
    shift, widths = 1.5, (0.5, 2.0)
    same, apart = 0.0, 0.0
    for h in widths:
        same += h / (h**2 + 2) ** 0.5 / 2
        apart += h / (h**2 + 2) ** 0.5 * math.exp(-(shift**2) / 2 / (h**2 + 2)) / 2
    metric = MMD(bandwidth=0.5, factors=(1.0, 4.0))
    sets = [(normal(400, 1, seed=[s, 0]), normal(300, 1, seed=[s, 1], shift=shift)) for s in range(30)]
    found = np.array([metric.measure(*pair).item() for pair in sets])
    assert abs(found.mean() - 2 * (same - apart)) < SIGMAS * found.std() / 30**0.5
    assert (found > 0.1).all()  # the sign says that they are apart


def test_mmd_by_its_definition():
    x, y, h = normal(6), normal(5, seed=1), 1.3

    def mean(one, other, left_out):
        k = torch.stack([(-torch.cdist(one, other).square() / (2 * (f * h) ** 2)).exp() for f in (0.5, 2.0)]).mean(0)
        return (k.sum() - (k.diagonal().sum() if left_out else 0)) / (k.numel() - (len(k) if left_out else 0))

    exact = mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False)
    assert numbers(measured(MMD(h, (0.5, 2.0)), x, y)) == [pytest.approx(exact.item(), abs=ROUNDING)]


def test_the_median_is_that_of_true_samples():
    x, y = normal(300), normal(300, seed=1)
    h = torch.pdist(x).median().item()
    assert numbers(measured(MMD(), x, y)) == [pytest.approx(measured(MMD(h), x, y).item(), abs=ROUNDING)]
    many = normal(5000)
    assert median_distance(many) == pytest.approx(torch.pdist(many[:2000]).median().item(), rel=0.05)


def test_most_true_samples_are_the_same():
    with pytest.raises(InputError, match="median distance is 0; give a bandwidth"):
        measured(MMD(), torch.ones(10, 2), normal(10, 2))


def test_a_subset_is_precise_and_what_it_lacks_is_not_recalled():
    """Two clusters far apart, of which a generator makes one."""
    real = torch.cat([normal(100), normal(100, seed=1, shift=50.0)])
    found = measured(PrecisionRecall(), real, real[:100])
    assert numbers(found) == [1.0, 0.5]
    assert numbers(measured(PrecisionRecall(), real[:100], real)) == [0.5, 1.0]
    assert numbers(measured(PrecisionRecall(), real, real)) == [1.0, 1.0]
    assert numbers(measured(PrecisionRecall(), real, normal(100, seed=2, shift=-99.0))) == [0.0, 0.0]


def test_precision_by_hand():
    """True samples at 0, 1, 3, 7 reach 1, 1, 2, 4; generated ones at −1.5, −1, 4.5, 5 and 11 reach ½, ½, ½, ½ and 6."""
    real, made = torch.tensor([[0.0], [1.0], [3.0], [7.0]]), torch.tensor([[-1.5], [-1.0], [4.5], [5.0], [11.0]])
    found = measured(PrecisionRecall(k=1), real, made)  # all but the first are within; of the true ones, 7 alone
    assert numbers(found) == [pytest.approx(4 / 5), pytest.approx(1 / 4)]


def test_copies_of_a_sample_cover_its_copies():
    """More than k of them reach nowhere, and are still exactly there."""
    real = 1e3 + normal(1, 40).repeat(6, 1) / 3
    assert numbers(measured(PrecisionRecall(), real, real[:5])) == [1.0, 1.0]


def test_frechet_of_normal_distributions_by_the_root_of_the_product():
    rng = np.random.default_rng(3)
    (a, b), (m, o) = rng.standard_normal((2, 6, 6)), rng.standard_normal((2, 6))
    a, b = a @ a.T, b @ b.T
    exact = np.square(m - o).sum() + np.trace(a + b - 2 * scipy.linalg.sqrtm(a @ b).real)
    assert frechet(*map(torch.from_numpy, (m, a, o, b))).item() == pytest.approx(exact, rel=1e-10)


def test_frechet_on_a_line():
    """(m − o)² + (s − t)²."""
    parts = ([1.0], [[9.0]], [3.0], [[0.25]])
    assert frechet(*(torch.tensor(part).double() for part in parts)).item() == pytest.approx(4 + 2.5**2)


def test_frechet_by_the_moments_of_the_samples():
    x, y = normal(200), 2 * normal(150, seed=1, shift=1.0)
    exact = frechet(x.mean(0), x.T.cov(), y.mean(0), y.T.cov())
    assert numbers(measured(FrechetDistance(3), x, y, batch=17)) == [pytest.approx(exact.item(), rel=1e-10)]


def test_frechet_of_fewer_samples_than_channels_has_no_noise():
    """Singular covariances: equal sets are 0 apart to rounding, not to its root; a shift keeps its square."""
    x = normal(10, 64)
    assert measured(FrechetDistance(64), x, x.flip(0)).item() < 1e-10
    assert measured(FrechetDistance(64), x, x + 0.5).item() == pytest.approx(64 / 4, rel=1e-10)


def test_frechet_is_that_of_torchmetrics():
    """Whose sums and root are its own: with the same features, the same number."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    torch.manual_seed(2)
    features = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh())
    theirs = FrechetInceptionDistance(feature=features, input_img_size=(1, 8, 8), normalize=True)
    x, y = torch.rand(300, 1, 8, 8), torch.rand(200, 1, 8, 8).square()
    exact = measured(theirs, x, y).item()
    assert measured(FrechetDistance(8, features), x, y).item() == pytest.approx(exact, rel=1e-4)


def test_batches_and_their_order_change_nothing(kind):
    x, y = normal(90), normal(70, seed=1, shift=0.3)
    whole = numbers(measured(kind(), x, y))
    mixed = kind()
    for part in y.flip(0).split(13):
        mixed.update(part, real=False)
    for part in x[torch.randperm(90)].split(7):
        mixed.update(part, real=True)
    again = numbers(mixed.compute())
    if isinstance(mixed, FrechetDistance):
        assert again == pytest.approx(whole, rel=1e-10)
    else:
        assert again == whole  # to the last bit


def test_the_median_of_many_does_not_depend_on_their_order():
    x, y = normal(1500, 2), normal(50, 2, seed=1)
    assert numbers(measured(MMD(), x, y)) == numbers(measured(MMD(), x[torch.randperm(1500)], y))


def test_pieces_are_the_whole(kind, monkeypatch):
    """All pairs at once, and a few at a time."""
    x, y = normal(90), normal(70, seed=1, shift=0.3)
    whole = numbers(measured(kind(), x, y))
    for module in ("two_samples", "wasserstein"):
        monkeypatch.setattr(f"deqlight.metrics.{module}.CHUNK", 500)
    assert numbers(measured(kind(), x, y)) == pytest.approx(whole, rel=1e-12)
    assert max(block.numel() for block in distances(x, y)) <= 500


def test_reset_forgets(kind):
    metric = kind()
    measured(metric, normal(20), normal(20, shift=9.0))
    metric.reset()
    x, y = normal(30), normal(25, seed=1)
    assert numbers(measured(metric, x, y)) == numbers(measured(kind(), x, y))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_sample_that_is_not_finite_makes_the_number_so(kind, value):
    bad = normal(20)
    bad[3, 1] = value
    for pair in ((bad, normal(20)), (normal(20), bad)):
        assert not any(math.isfinite(found) for found in numbers(measured(kind(), *pair)))


def test_a_run_in_sixteen_bits_keeps_the_sums():
    x, y = normal(50), normal(40, seed=1)
    low = FrechetDistance(3)
    low = nn.Sequential(low).to(torch.bfloat16)[0]
    assert numbers(measured(low, x, y)) == numbers(measured(FrechetDistance(3), x, y))


def test_features_are_a_frozen_copy(kind):
    """Not trained, not saved, not changed by what becomes of the network, and evaluated as in a test."""
    net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 3))
    metric = kind().__class__(**({"channels": 3} if isinstance(kind(), FrechetDistance) else {}), features=net)
    x, y = torch.randn(20, 2, 2), torch.randn(20, 2, 2)
    found = numbers(measured(metric, x, y))
    assert not list(metric.parameters()) and not metric.state_dict()
    assert net.training and all(p.requires_grad for p in net.parameters()) and net[1].num_batches_tracked == 0
    metric.train()
    with torch.no_grad():
        net[3].weight.mul_(2)
    again = pickle.loads(pickle.dumps(metric))
    again.reset()
    with torch.autocast("cpu", torch.bfloat16):
        assert numbers(measured(again, x, y)) == found


@pytest.mark.parametrize(
    ("use", "kind", "told"),
    [
        (lambda: measured(MMD(), normal(5), normal(1)), InputError, "MMD got 5 true and 1 generated .* at least 2"),
        (lambda: SlicedWasserstein().compute(), InputError, "got 0 true and 0 generated samples; .* at least 1"),
        (lambda: measured(PrecisionRecall(5), normal(5), normal(9)), InputError, "got 5 true .* at least 6"),
        (lambda: measured(FrechetDistance(3), normal(1), normal(9)), InputError, "got 1 true .* at least 2"),
        (lambda: measured(MMD(), normal(5), normal(5, 2)), ShapeError, "MMD got samples of 2 numbers; the others have"),
        (lambda: measured(FrechetDistance(2), normal(5), normal(5)), ShapeError, "of 3 numbers; the others have 2"),
        (lambda: MMD().update(torch.zeros(5), real=True), ShapeError, r"samples of shape \(5,\)"),
        (lambda: MMD().update(torch.zeros(0, 2), real=True), ShapeError, r"samples of shape \(0, 2\)"),
        (lambda: MMD(0.0), InputError, "bandwidth=0"),
        (lambda: MMD(factors=()), InputError, "factors=\\(\\)"),
        (lambda: PrecisionRecall(0), InputError, "k=0"),
        (lambda: FrechetDistance(0), InputError, "channels=0"),
        (lambda: SlicedWasserstein(0), InputError, "projections=0"),
        (lambda: SlicedWasserstein(p=3), InputError, "p=3"),
        (lambda: SlicedWasserstein(seed=-1), InputError, "seed=-1"),
    ],
)
@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_what_cannot_be(use, kind, told):
    with pytest.raises(kind, match=told):
        use()
