"""The predictive distribution: means of probabilities, and four doubts."""

import math

import pytest
import torch

from deqlight.errors import ShapeError
from deqlight.metrics import DOUBTS, Predictive


def scores(*probabilities):
    return torch.tensor(probabilities).log()


def test_probabilities_are_averaged_not_scores(double):
    said = Predictive(torch.tensor([[[math.log(9.0), 0.0]], [[0.0, 0.0]]]))
    assert said.probabilities.tolist() == [[pytest.approx(0.7), pytest.approx(0.3)]]  # of the mean score: 0.75
    assert said.variance.tolist() == [[pytest.approx(0.04), pytest.approx(0.04)]]


def test_entropy_and_information_by_hand(double):
    said = Predictive(scores([[0.9, 0.1]], [[0.1, 0.9]]))
    assert said.entropy.item() == pytest.approx(math.log(2))
    each = -0.9 * math.log(0.9) - 0.1 * math.log(0.1)
    assert said.information.item() == pytest.approx(math.log(2) - each)


def test_draws_that_agree_give_no_information(double):
    said = Predictive(torch.randn(1, 50, 3).expand(8, 50, 3))
    assert said.information.abs().max() < 1e-12
    assert said.variance.abs().max() < 1e-12
    assert (said.information >= 0).all()


def test_a_sure_network_has_doubts_in_an_order_nonetheless():
    doubts = Predictive(torch.tensor([[[20.0, 0.0], [30.0, 0.0], [40.0, 0.0]]])).doubts()
    for name in ("confidence", "entropy"):  # in float32, 1 - p is zero for all three
        assert (doubts[name].diff() < 0).all() and (doubts[name] > 0).all()
    assert tuple(doubts) == DOUBTS


def test_probabilities_that_vanish_do_no_harm():
    said = Predictive(torch.tensor([[[0.0, -math.inf]], [[0.0, -1e6]]]))
    assert said.entropy.item() == 0.0
    assert all(value.isfinite().all() for value in said.doubts().values())


def test_an_axis_is_missing():
    with pytest.raises(ShapeError, match=r"\(4, 10\); it needs \(draws, batch, classes\)"):
        Predictive(torch.zeros(4, 10))
