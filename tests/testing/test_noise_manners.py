"""How solvers behave with noise, as the kit measures it: good ones, and what bad ones do."""

import pytest
from faulty_noise import DetachedNoise, FloatNoise, MixesNoise, NotUndoneNoise, OwnNoise

from deqlight import testing
from deqlight.solvers import SRK, Euler, LogODE, Milstein, ReversibleHeun, StepDoubling

EXACT = 1e-12  # two orders of the same sums, in float64
SLOPE = 1e-6  # central differences over 2e-5
GOOD = [Euler(), Milstein(), Milstein(derivative_free=True), SRK(), LogODE(), ReversibleHeun(), StepDoubling(Euler())]


@pytest.mark.parametrize("solver", GOOD, ids=repr)
def test_good_solvers(solver):
    assert testing.replay_gap(solver) == 0
    assert testing.noisy_batch_gap(solver) < EXACT
    assert testing.noisy_clock_gap(solver) < EXACT
    assert testing.noisy_gradient_gap(solver) < SLOPE


def test_steps_with_noise_are_undone():
    assert testing.noisy_undo_gap(ReversibleHeun()) < 2e-11  # 1e-13 a step


@pytest.mark.parametrize(
    ("solver", "gap", "least"),
    [
        (OwnNoise(), testing.replay_gap, 0.1),
        (MixesNoise(), testing.noisy_batch_gap, 1e-10),
        (FloatNoise(), testing.noisy_clock_gap, 1e-10),
        (DetachedNoise(), testing.noisy_gradient_gap, 0.1),
        (NotUndoneNoise(), testing.noisy_undo_gap, 1e-9),
    ],
    ids=lambda value: type(value).__name__,
)
def test_bad_solvers(solver, gap, least):
    assert gap(solver) > least
