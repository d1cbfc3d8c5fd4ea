"""Thresholds: data inside are left alone to the last bit, those outside end inside, whatever the noise."""

import math

import pytest
import torch

from deqlight import solve
from deqlight.errors import InputError
from deqlight.nets import DynamicThreshold, StaticThreshold, Thresholded
from deqlight.schedules import EDM, Karras
from deqlight.solvers import DDIM
from deqlight.terms import Denoising

pytestmark = pytest.mark.usefixtures("double")

LEVELS = (0.0, 1e-300, 1e-12, 1e-3, 1.0, 80.0, 1e6)
THRESHOLDS = [StaticThreshold(), DynamicThreshold(), DynamicThreshold(0.9, 1.5)]
ROUNDING = 1e-12


def images(size, samples=3):
    generator = torch.Generator().manual_seed(0)
    return size * (2 * torch.rand(samples, 3, 4, 4, generator=generator) - 1)


def field_to(data):
    """The noise estimate whose data estimate is given."""
    return lambda rho, y: (y - data) / rho if not isinstance(rho, float) or rho else torch.zeros_like(y)


@pytest.mark.parametrize("threshold", THRESHOLDS, ids=repr)
@pytest.mark.parametrize("rho", [1e-3, 1.0, 80.0])
def test_data_inside_are_left_alone(threshold, rho):
    y, field = images(0.9) + rho * torch.randn(3, 3, 4, 4), field_to(images(0.9))
    assert torch.equal(threshold.around(field)(rho, y), field(rho, y))
    each = torch.full((3, 1, 1, 1), rho)
    assert torch.equal(threshold.around(field)(each, y), field(each, y))


@pytest.mark.parametrize("threshold", THRESHOLDS, ids=repr)
@pytest.mark.parametrize("rho", [1e-3, 1.0, 80.0])
def test_data_outside_end_inside(threshold, rho):
    y, data = torch.randn(3, 3, 4, 4) * (1 + rho), images(3.0)
    end = getattr(threshold, "most", 1.0)
    kept = y - rho * threshold.around(field_to(data))(rho, y)
    assert torch.allclose(kept, threshold.bound(data), atol=ROUNDING * (1 + rho))
    assert float(kept.abs().max()) <= end + ROUNDING * (1 + rho) and not torch.allclose(kept, data, atol=0.1)


def test_the_published_rule():
    """Of 1, 2, …, 200 the 99.5 % quantile is 199.005, linearly between: cut off there, then divided by it."""
    data = torch.arange(1.0, 201.0)[None]
    size = torch.quantile(data, 0.995)
    assert float(size) == pytest.approx(199.005)
    assert torch.allclose(DynamicThreshold().bound(data), data.clamp(max=float(size)) / size, rtol=ROUNDING)
    assert torch.allclose(DynamicThreshold().bound(-data), -DynamicThreshold().bound(data), rtol=ROUNDING)
    assert torch.allclose(DynamicThreshold(most=2.0).bound(data), 2 * data.clamp(max=float(size)) / size, rtol=ROUNDING)
    assert torch.equal(
        StaticThreshold(-5.0, 7.0).bound(torch.tensor([[-9.0, 3.0, 9.0]])), torch.tensor([[-5.0, 3.0, 7.0]])
    )


def test_each_sample_has_its_own_quantile():
    data = images(1.0) * torch.tensor([0.5, 2.0, 8.0])[:, None, None, None]
    for n in range(3):
        assert torch.equal(DynamicThreshold().bound(data)[n], DynamicThreshold().bound(data[n : n + 1])[0])
    assert torch.equal(DynamicThreshold().bound(data)[0], data[0])


@pytest.mark.parametrize("threshold", THRESHOLDS, ids=repr)
@pytest.mark.parametrize("rho", LEVELS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_estimates_are_finite_at_all_levels(threshold, rho, dtype):
    y = (images(3.0) + rho * torch.randn(3, 3, 4, 4)).to(dtype)
    field = threshold.around(lambda rho, y: torch.ones_like(y))
    for level in (rho, torch.full((3, 1, 1, 1), rho, dtype=dtype)):
        found = field(level, y)
        assert found.dtype == dtype and bool(found.isfinite().all())
    if rho == 0.0:
        assert torch.equal(found, torch.ones_like(y))


def test_samplers_end_inside():
    """A field that believes in data three times too large: the last step returns the data estimate, kept inside."""
    data = images(3.0)
    y0 = 80.0 * torch.randn(3, 3, 4, 4)
    times = Karras(to_zero=True).times(EDM(), 12)
    free = solve(Denoising(field_to(data)), y0, times, solver=DDIM()).y1
    kept = solve(Denoising(DynamicThreshold().around(field_to(data))), y0, times, solver=DDIM()).y1
    assert torch.allclose(free, data, atol=1e-9) and float(kept.abs().max()) <= 1 + 1e-9


def test_what_makes_no_sense_is_refused():
    assert isinstance(StaticThreshold().around(field_to(0.0)), Thresholded)
    for low, high in ((1.0, -1.0), (0.0, 0.0), (-math.inf, 1.0), (0.0, math.nan)):
        with pytest.raises(InputError, match="StaticThreshold got"):
            StaticThreshold(low, high)
    for quantile, most in ((-0.1, 1.0), (1.1, 1.0), (0.9, 0.0), (0.9, math.inf)):
        with pytest.raises(InputError, match="DynamicThreshold got"):
            DynamicThreshold(quantile, most)
