"""Attacks stay within their bound, raise the loss, and are those of the linear model in closed form."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from deqlight.errors import InputError, ShapeError
from deqlight.robustness import FGSM, PGD

IDS = torch.arange(6)


@pytest.fixture
def model():
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 3))
    images, targets = torch.rand(6, 1, 4, 4) * 0.6 + 0.2, torch.arange(6) % 3
    return images, lambda x: F.cross_entropy(net(x), targets, reduction="none")


@pytest.mark.parametrize("attack", [FGSM(eps=0.05), PGD(eps=0.05)], ids=repr)
def test_within_the_bound_and_worse(attack, model):
    images, losses = model
    with torch.inference_mode():
        moved = attack(losses, images, IDS)
        assert (moved - images).abs().max() <= 0.05 + 1e-6
        assert moved.min() >= 0 and moved.max() <= 1
        assert (losses(moved) > losses(images)).all()


def test_more_steps_find_no_less(model):
    images, losses = model
    fast = losses(FGSM(eps=0.2)(losses, images, IDS)).mean()
    few, many = (losses(PGD(eps=0.2, steps=n)(losses, images, IDS)).mean() for n in (5, 50))
    assert fast <= many + 1e-3 and few <= many + 1e-3


def test_on_a_linear_loss_both_are_the_sign_of_its_slope():
    slope = torch.randn(1, 1, 4, 4)
    images = torch.full((6, 1, 4, 4), 0.5)
    expected = images + 0.1 * slope.sign()
    for attack in (FGSM(eps=0.1), PGD(eps=0.1, steps=40)):
        moved = attack(lambda x: (slope * x).flatten(1).sum(1), images, IDS)
        torch.testing.assert_close(moved, expected.expand_as(moved))


def test_the_random_start_is_the_images_own(model):
    images, _ = model
    whole = PGD(steps=1, step=1e-6)(lambda x: x.flatten(1).sum(1), images, IDS)
    part = PGD(steps=1, step=1e-6)(lambda x: x.flatten(1).sum(1), images[[4, 1]], IDS[[4, 1]])
    assert torch.equal(whole[[4, 1]], part)
    assert not torch.equal(whole, PGD(steps=1, step=1e-6)(lambda x: x.flatten(1).sum(1), images, IDS, seed=1))


def test_they_are_those_of_the_paper_by_hand(model):
    """FGSM's step, and two of PGD's, written out."""
    images, losses = model

    def sign(x):
        leaf = x.clone().requires_grad_()
        return torch.autograd.grad(losses(leaf).sum(), leaf)[0].sign()

    torch.testing.assert_close(FGSM(0.05)(losses, images, IDS), images + 0.05 * sign(images))
    start = PGD(0.05, steps=1, step=1e-30)(losses, images, IDS)
    one = (start + 0.04 * sign(start)).clamp(images - 0.05, images + 0.05)
    two = (one + 0.04 * sign(one)).clamp(images - 0.05, images + 0.05)
    torch.testing.assert_close(PGD(0.05, steps=2, step=0.04)(losses, images, IDS), two)
    assert (start - images).abs().amax() > 0.03


def test_what_cannot_be_attacked_is_refused(model):
    images, losses = model
    with pytest.raises(InputError, match="no gradient in the images"):
        FGSM()(lambda x: losses(x.detach()), images, IDS)
    with pytest.raises(InputError, match="not finite"):
        PGD()(lambda x: losses(x) * float("nan"), images, IDS)
    with pytest.raises(InputError, match=r"FGSM got images from .* they must lie in \[0, 1\]"):
        FGSM()(losses, images * 255, IDS)
    with pytest.raises(InputError, match="PGD got images from nan"):
        PGD()(losses, images * float("nan"), IDS)
    with pytest.raises(ShapeError, match="needs images"):
        PGD()(losses, images.flatten(1), IDS)


def test_a_bound_in_255ths_is_refused():
    with pytest.raises(InputError, match=r"8 of 255 is 0\.0314"):
        PGD(eps=8.0)


@pytest.mark.parametrize(
    "make", [lambda: FGSM(eps=0.0), lambda: PGD(eps=-1.0), lambda: PGD(steps=0), lambda: PGD(step=0.0)]
)
def test_nothing_below_zero(make):
    with pytest.raises(InputError, match="above 0"):
        make()
