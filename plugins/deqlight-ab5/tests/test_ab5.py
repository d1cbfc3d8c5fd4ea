"""What AB5 claims, measured: first by deqlight's own kit, then by hand."""

import math

import pytest
import torch
from deqlight_ab5 import AB5, WEIGHTS

from deqlight import InputError, Layered, ODETerm, solve
from deqlight.controllers import Constant
from deqlight.testing import check_solver

ORDER_TOLERANCE = 0.05  # the slope between 80 and 160 steps, where the next term of the error is a few per cent
ROUNDING = 1e-14


def growth(t, y):
    return y * math.cos(t)  # non-autonomous: y(t) = exp(sin t)


def error(steps):
    """The largest error at four times: it changes its sign between them, and is small near there by chance."""
    y0, ts = torch.ones(2, 1, dtype=torch.float64), [0.0, 0.25, 0.5, 0.75, 1.0]
    ys = solve(ODETerm(growth), y0, ts, solver=AB5(), controller=Constant(steps=steps // 4)).ys
    return max(float((y - math.exp(math.sin(t))).abs().max()) for t, y in zip(ts, ys, strict=True))


def test_the_conformance_kit_agrees():
    check_solver(AB5)


def test_order_five():
    assert math.log2(error(80) / error(160)) == pytest.approx(5, abs=ORDER_TOLERANCE)


@pytest.mark.parametrize("power", range(5))
def test_the_weights_integrate_quartics(power):
    past = sum(weight * (-j) ** power for j, weight in enumerate(WEIGHTS))
    assert past == pytest.approx(1 / (power + 1), abs=ROUNDING)


def test_on_layers_it_is_the_network_written_out():
    torch.manual_seed(0)
    layers = [torch.nn.Linear(4, 4, dtype=torch.float64) for _ in range(6)]
    f = [lambda t, y, layer=layer: torch.tanh(layer(y)) for layer in layers]
    x = torch.randn(3, 4, dtype=torch.float64)
    y = [x]
    for n in (0, 1, 2, 3):
        a = f[n](n, y[n])
        b = f[n](n, y[n] + a / 2)
        c = f[n](n, y[n] + b / 2)
        y.append(y[n] + (a + 2 * b + 2 * c + f[n](n, y[n] + c)) / 6)
    for n in (4, 5):
        y.append(y[n] + sum(w * f[n - j](n - j, y[n - j]) for j, w in enumerate(WEIGHTS)))
    network = Layered(f)
    torch.testing.assert_close(solve(network, x, range(7), solver=AB5()).ys, torch.stack(y), rtol=0, atol=ROUNDING)


def test_tuples_and_tensors_are_treated_alike():
    y0 = torch.ones(2, 3, dtype=torch.float64)
    pair = ODETerm(lambda t, y: tuple(growth(t, leaf) for leaf in y))
    both = solve(pair, (y0, 2 * y0), [0.0, 1.0], solver=AB5(), controller=Constant(steps=5)).y1
    one = solve(ODETerm(growth), y0, [0.0, 1.0], solver=AB5(), controller=Constant(steps=5)).y1
    assert torch.equal(both[0], one)
    assert torch.equal(both[1], 2 * one)


@pytest.mark.parametrize("steps", [4, 5, 9])
def test_it_spends_what_it_says(steps):
    solution = solve(ODETerm(growth), torch.ones(2, 1), [0.0, 1.0], solver=AB5(), controller=Constant(steps=steps))
    assert solution.stats.nfe.tolist() == [AB5.info.nfe_start + AB5.info.nfe_step * steps] * 2


def test_unequal_steps_are_refused():
    with pytest.raises(InputError):
        solve(ODETerm(growth), torch.ones(2, 1), [0.0, 0.1, 1.0], solver=AB5())
