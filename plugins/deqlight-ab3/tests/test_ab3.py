"""What AB3 claims, measured: first by deqlight's own kit, then by hand."""

import math

import pytest
import torch
from deqlight_ab3 import AB3, WEIGHTS

from deqlight import InputError, Layered, ODETerm, solve
from deqlight.controllers import Constant
from deqlight.testing import check_solver

ORDER_TOLERANCE = 0.05  # the slope between 80 and 320 steps, where the next term of the error is a few per cent
ROUNDING = 1e-14


def growth(t, y):
    return y * math.cos(t)  # non-autonomous: y(t) = exp(sin t)


def error(steps):
    y0 = torch.ones(2, 1, dtype=torch.float64)
    y1 = solve(ODETerm(growth), y0, [0.0, 2.0], solver=AB3(), controller=Constant(steps=steps)).y1
    return float((y1 - math.exp(math.sin(2.0))).abs().max())


def test_the_conformance_kit_agrees():
    check_solver(AB3)


def test_order_three():
    assert math.log(error(80) / error(320), 4) == pytest.approx(3, abs=ORDER_TOLERANCE)


@pytest.mark.parametrize("power", [0, 1, 2])
def test_the_weights_integrate_quadratics(power):
    past = sum(weight * (-j) ** power for j, weight in enumerate(WEIGHTS))
    assert past == pytest.approx(1 / (power + 1), abs=ROUNDING)


def test_on_layers_it_is_the_network_written_out():
    torch.manual_seed(0)
    layers = [torch.nn.Linear(4, 4, dtype=torch.float64) for _ in range(4)]
    f = [lambda t, y, layer=layer: torch.tanh(layer(y)) for layer in layers]
    x = torch.randn(3, 4, dtype=torch.float64)
    y = [x]
    for n in (0, 1):
        y.append(y[n] + f[n](n, y[n] + f[n](n, y[n]) / 2))
    for n in (2, 3):
        y.append(y[n] + sum(w * f[n - j](n - j, y[n - j]) for j, w in enumerate(WEIGHTS)))
    network = Layered(f)
    torch.testing.assert_close(solve(network, x, range(5), solver=AB3()).ys, torch.stack(y), rtol=0, atol=ROUNDING)


def test_tuples_and_tensors_are_treated_alike():
    y0 = torch.ones(2, 3, dtype=torch.float64)
    pair = ODETerm(lambda t, y: tuple(growth(t, leaf) for leaf in y))
    both = solve(pair, (y0, 2 * y0), [0.0, 1.0], solver=AB3(), controller=Constant(steps=5)).y1
    one = solve(ODETerm(growth), y0, [0.0, 1.0], solver=AB3(), controller=Constant(steps=5)).y1
    assert torch.equal(both[0], one)
    assert torch.equal(both[1], 2 * one)


@pytest.mark.parametrize("steps", [2, 3, 7])
def test_it_spends_what_it_says(steps):
    solution = solve(ODETerm(growth), torch.ones(2, 1), [0.0, 1.0], solver=AB3(), controller=Constant(steps=steps))
    assert solution.stats.nfe.tolist() == [AB3.info.nfe_start + AB3.info.nfe_step * steps] * 2


def test_unequal_steps_are_refused():
    with pytest.raises(InputError):
        solve(ODETerm(growth), torch.ones(2, 1), [0.0, 0.1, 1.0], solver=AB3())
