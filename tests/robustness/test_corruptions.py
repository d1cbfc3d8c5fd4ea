"""Images become worse with severity, the same way in any batch."""

import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn import functional as F

from deqlight.errors import InputError, ShapeError
from deqlight.robustness import Blur, Brightness, Contrast, Occlusion, Pixelate, PixelNoise

ALL = [PixelNoise(), Blur(), Contrast(), Brightness(), Pixelate(), Occlusion()]
IMAGES = torch.tensor(load_digits().images[:200] / 16.0).float()[:, None]
IDS = torch.arange(200)


@pytest.mark.parametrize("corruption", ALL, ids=repr)
def test_each_severity_is_worse_than_the_last(corruption):
    distances = [float((corruption(IMAGES, s, IDS) - IMAGES).square().mean()) for s in range(1, 6)]
    assert distances == sorted(distances)
    assert distances[0] > 0


@pytest.mark.parametrize("corruption", ALL, ids=repr)
def test_an_image_becomes_the_same_in_any_batch(corruption):
    whole, rows = corruption(IMAGES, 3, IDS), torch.tensor([17, 3, 150])
    assert torch.equal(corruption(IMAGES[rows], 3, IDS[rows]), whole[rows])
    assert whole.min() >= 0 and whole.max() <= 1


def test_noise_has_its_size():
    middle = torch.full((2000, 1, 8, 8), 0.5)
    assert float(PixelNoise()(middle, 2, torch.arange(2000)).std()) == pytest.approx(0.1, rel=0.02)


def test_blur_keeps_the_mean_of_even_images_and_spreads_a_point():
    assert torch.allclose(Blur()(torch.full((1, 3, 9, 9), 0.7), 5, IDS[:1]), torch.tensor(0.7))
    point = torch.zeros(1, 1, 17, 17)
    point[..., 8, 8] = 1.0
    blurred = Blur()(point, 4, IDS[:1])[0, 0]
    places = torch.arange(17.0) - 8
    assert float((blurred.sum(0) * places**2).sum()) == pytest.approx(1.0, rel=0.02)  # the variance of width 1


def test_contrast_keeps_each_images_mean():
    torch.testing.assert_close(Contrast()(IMAGES, 5, IDS).mean((1, 2, 3)), IMAGES.mean((1, 2, 3)))


def test_brightness_adds_light_up_to_white():
    torch.testing.assert_close(Brightness()(IMAGES, 3, IDS), (IMAGES + 0.3).clamp(max=1.0))


def test_coarse_pixels_are_means_of_fine_ones():
    """Half as many along each side, and images that are not square."""
    found = Pixelate()(IMAGES, 3, IDS)
    torch.testing.assert_close(found, F.interpolate(F.avg_pool2d(IMAGES, 2), scale_factor=2.0))
    tall = torch.rand(2, 3, 10, 7)
    torch.testing.assert_close(Pixelate()(tall, 1, IDS[:2]).mean((2, 3)), tall.mean((2, 3)))
    torch.testing.assert_close(Pixelate()(tall, 1, IDS[:2]).mT, Pixelate()(tall.mT, 1, IDS[:2]))


def test_the_square_has_its_side_and_lies_inside():
    white = torch.ones(500, 2, 10, 20)
    dark = 1 - Occlusion()(white, 3, torch.arange(500))
    assert (dark.sum((2, 3)) == 5 * 10).all()
    assert dark[:, 0].sum(0).min() > 0  # everywhere, once


@pytest.mark.parametrize("severity", [0, 6, 1.5])
def test_other_severities_are_refused(severity):
    with pytest.raises(InputError, match="1 to 5"):
        Blur()(IMAGES, severity, IDS)


def test_vectors_are_no_images():
    with pytest.raises(ShapeError, match="images"):
        PixelNoise()(torch.zeros(3, 4), 1, IDS[:3])
