"""Densities in the plane: their mass is one, their points fall where they say, and what has a closed form has it."""

import math

import lightning as L
import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser

from deqlight.data import Checkerboard, EightGaussians, Moons, PinWheel, Points, Rings, Spirals
from deqlight.errors import InputError, ShapeError

MASS = 1e-6
ROUNDING = 1e-11  # float64, sums of thousands of numbers
SIGMAS = 5.0
DRAWS = 100_000

SMEARED = (EightGaussians(), Moons(noise=0.2), Spirals(noise=0.2), Rings(noise=0.2))
DENSITIES = {type(density).__name__: density for density in (*SMEARED, Checkerboard(), PinWheel())}
DENSITIES["odd board"] = Checkerboard(3, 0.7)
REACH = 4.8  # nothing has points farther away: the next would be six deviations off
STEP = 0.1  # half the smallest deviation: the sum over a grid is the integral to e^-79; it divides the board's squares


@pytest.fixture(params=DENSITIES)
def density(request):
    return DENSITIES[request.param]


def grid(step, reach=REACH):
    """The middles of squares, `(n, n, 2)`."""
    middles = torch.arange(-reach + step / 2, reach, step, dtype=torch.float64)
    return torch.stack(torch.meshgrid(middles, middles, indexing="ij"), -1)


def on_grid(density, step, reach=REACH):
    places = grid(step, reach)
    return density.log_density(places.flatten(0, 1)).exp().reshape(places.shape[:2])


def drawn(density, samples=DRAWS):
    return density.sample(samples, np.random.default_rng(0))


@pytest.mark.parametrize("name", DENSITIES)
def test_the_mass_is_one(name):
    reach, step = (1.4, STEP / 2) if name == "odd board" else (REACH, STEP)
    mass = float(on_grid(DENSITIES[name], step, reach).sum()) * step**2
    # the wheel's twist has a corner at the origin, where sums over squares have but a few digits
    assert mass == pytest.approx(1.0, abs=1e-5 if name == "PinWheel" else MASS)


def test_the_mass_of_the_wheel_in_polar_coordinates():
    x, w = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(200))
    r, angle = 4 * (x + 1), torch.linspace(0, 2 * math.pi, 401).double()[:-1]
    places = r[:, None, None] * torch.stack([angle.cos(), angle.sin()], -1)
    values = PinWheel().log_density(places.flatten(0, 1)).exp().reshape(200, 400)
    assert float((4 * w * r * values.mean(1)).sum()) * 2 * math.pi == pytest.approx(1.0, abs=MASS)


def test_points_fall_where_the_density_is(density):
    """The share of points in each of 24² squares, within five deviations."""
    cells, inner = 24, 8
    step = 2 * REACH / (cells * inner)
    expected = on_grid(density, step).reshape(cells, inner, cells, inner).sum((1, 3)) * step**2
    squares = ((drawn(density)[0] + REACH) / (inner * step)).floor().long()
    assert (squares >= 0).all() and (squares < cells).all()
    share = torch.bincount(squares[:, 0] * cells + squares[:, 1], minlength=cells**2).reshape(cells, cells) / DRAWS
    error = (expected * (1 - expected) / DRAWS).sqrt() + 1 / DRAWS
    assert ((share - expected).abs() < SIGMAS * error).all()


def test_components_are_equally_likely(density):
    counts = drawn(density)[1].bincount() / DRAWS
    p = 1 / density.components
    assert len(counts) == density.components
    assert ((counts - p).abs() < SIGMAS * (p * (1 - p) / DRAWS) ** 0.5).all()


def test_points_belong_to_their_components():
    points, which = drawn(EightGaussians(noise=0.1), 1000)
    angle = torch.atan2(points[:, 1], points[:, 0])
    assert torch.equal((angle * 8 / (2 * math.pi)).round().long() % 8, which)
    points, which = drawn(Rings(noise=0.05), 1000)
    assert torch.equal(points.norm(dim=1).round().long() - 1, which)
    points, which = drawn(Checkerboard(), 1000)
    row, column = (points + 2).floor().long().unbind(1)
    assert torch.equal(2 * row + column // 2, which) and bool(((row + column) % 2 == 0).all())


def test_rings_have_the_closed_form_of_a_bessel_function():
    """A circle smeared is exp(−(r² + R²) / 2σ²) I₀(r R / σ²) / 2πσ²; the mixture along it says the same."""
    rings, x = Rings(), 2.5 * torch.randn(200, 2).double()
    r, R, v = x.norm(dim=1)[:, None], torch.tensor([1.0, 2.0, 3.0]).double(), 0.01
    logs = -((r - R) ** 2) / (2 * v) + torch.special.i0e(r * R / v).log() - math.log(2 * math.pi * v)
    exact = logs.logsumexp(1) - math.log(3)
    assert torch.allclose(rings.log_density(x), exact, rtol=ROUNDING, atol=1e-9)


@pytest.mark.parametrize("make", [Moons, Spirals])
def test_the_mixture_along_a_curve_is_the_integral_over_it(make):
    """Against a sum over twenty thousand equal pieces."""
    density, pieces = make(), 20_000
    x = drawn(density, 50)[0] + torch.randn(50, 2).double()
    s = (torch.arange(pieces).double() + 0.5) / pieces
    found = []
    for part in range(density.components):
        nodes = density.curve(s, torch.full((pieces,), part))
        found.append(-torch.cdist(x, nodes).square() / (2 * density.noise**2))
    exact = torch.cat(found, 1).logsumexp(1) - math.log(2 * math.pi * density.noise**2 * pieces * density.components)
    assert torch.allclose(density.log_density(x), exact, atol=1e-5)  # the sum's own error at a curve's ends


def test_the_moons_are_those_of_scikit_learn():
    from sklearn.datasets import make_moons

    curve, classes = make_moons(200, noise=None, shuffle=False)
    s = torch.linspace(0, 1, 100).double().repeat(2)
    assert torch.allclose(Moons().curve(s, torch.from_numpy(classes)), torch.from_numpy(curve), atol=1e-12)


def test_spirals_keep_their_distance():
    spirals, s = Spirals(), torch.linspace(0, 1, 400).double()
    one, other = (spirals.curve(s, torch.full((400,), arm)) for arm in (0, 1))
    assert torch.cdist(one, other).min() > 8 * spirals.noise
    assert one[-1].norm() == pytest.approx(3.0)
    speed = one.diff(dim=0).norm(dim=1)
    assert speed.max() / speed.min() < 1.3


def test_between_the_dark_squares_there_is_nothing():
    places = torch.tensor([[-1.5, -1.5], [-1.5, -0.5], [0.5, 0.5], [5.0, 5.0], [-2.5, -1.5]])
    dark = -math.log(8)
    assert Checkerboard().log_density(places).tolist() == [dark, -math.inf, dark, -math.inf, -math.inf]


def test_a_batch_of_points():
    data = Points(Rings(), batch_size=10, train=40, val=20, test=30, data_seed=3)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch.inputs.shape == (10, 2) and batch.inputs.dtype == torch.float32
    assert batch.targets.dtype == torch.long and int(batch.targets.max()) < data.classes == 3
    parts = [data.train_dataloader(), data.val_dataloader(), data.test_dataloader()]
    ids = [torch.cat([b.ids for b in part]) for part in parts]
    assert [len(part) for part in ids] == [40, 20, 30] and sorted(torch.cat(ids).tolist()) == list(range(90))
    points = torch.cat([b.inputs for part in parts for b in part])
    assert len(points.unique(dim=0)) == 90


def test_a_configuration_names_the_density():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(L.LightningDataModule, "data")
    words = ["--data=Points", "--data.density=Rings", "--data.density.rings=2", "--data.train=5"]
    data = parser.instantiate(parser.parse_args(words)).data
    assert data.density == Rings(rings=2) and data.sizes[0] == 5


def test_points_depend_on_their_seed_alone():
    def points(seed):
        return Points(PinWheel(), data_seed=seed).load()[0].inputs

    one = points(0)
    torch.manual_seed(9)
    assert torch.equal(points(0), one) and not torch.equal(points(1), one)


@pytest.mark.parametrize(
    ("make", "kind", "told"),
    [
        (lambda: EightGaussians(noise=0.0), InputError, "EightGaussians: noise is 0"),
        (lambda: Rings(radius=math.nan), InputError, "Rings: radius is nan"),
        (lambda: Spirals(turns=0.2), InputError, "turns is 0.2; arms begin at 0.25"),
        (lambda: PinWheel(rate=math.inf), InputError, "rate is inf"),
        (lambda: Checkerboard(cells=0), InputError, "Checkerboard: cells is 0"),
        (lambda: Points(Moons(), val=0), InputError, "Points: val is 0"),
        (lambda: Points(Moons(), batch_size=0), InputError, "Points: batch_size is 0"),
        (lambda: Moons().log_density(torch.zeros(3)), ShapeError, r"\(3,\); points in the plane are \(batch, 2\)"),
    ],
)
def test_what_cannot_be(make, kind, told):
    with pytest.raises(kind, match=told):
        make()
