"""What SSPMS32 claims, measured: first by deqlight's own kit, then by hand."""

import math

import pytest
import torch
from deqlight_sspms import SSPMS32

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
    ys = solve(ODETerm(growth), y0, ts, solver=SSPMS32(), controller=Constant(steps=steps // 4)).ys
    return max(float((y - math.exp(math.sin(t))).abs().max()) for t, y in zip(ts, ys, strict=True))


def test_the_conformance_kit_agrees():
    check_solver(SSPMS32)


def test_order_two():
    assert math.log2(error(80) / error(160)) == pytest.approx(2, abs=ORDER_TOLERANCE)


def test_on_layers_it_is_the_network_written_out():
    torch.manual_seed(0)
    layers = [torch.nn.Linear(4, 4, dtype=torch.float64) for _ in range(6)]
    f = [lambda y, layer=layer: torch.tanh(layer(y)) for layer in layers]
    y = [torch.randn(3, 4, dtype=torch.float64)]
    for n in (0, 1):
        a = f[n](y[n])
        y.append(y[n] + (a + f[n](y[n] + a)) / 2)
    for n in (2, 3, 4, 5):
        y.append(3 / 4 * y[n] + 1 / 4 * y[n - 2] + 3 / 2 * f[n](y[n]))
    network = Layered([lambda t, y, fn=fn: fn(y) for fn in f])
    torch.testing.assert_close(
        solve(network, y[0], range(7), solver=SSPMS32()).ys, torch.stack(y), rtol=0, atol=ROUNDING
    )


def test_tuples_and_tensors_are_treated_alike():
    y0 = torch.ones(2, 3, dtype=torch.float64)
    pair = ODETerm(lambda t, y: tuple(growth(t, leaf) for leaf in y))
    both = solve(pair, (y0, 2 * y0), [0.0, 1.0], solver=SSPMS32(), controller=Constant(steps=5)).y1
    one = solve(ODETerm(growth), y0, [0.0, 1.0], solver=SSPMS32(), controller=Constant(steps=5)).y1
    assert torch.equal(both[0], one)
    assert torch.equal(both[1], 2 * one)


@pytest.mark.parametrize("steps", [4, 5, 9])
def test_it_spends_what_it_says(steps):
    solution = solve(ODETerm(growth), torch.ones(2, 1), [0.0, 1.0], solver=SSPMS32(), controller=Constant(steps=steps))
    assert solution.stats.nfe.tolist() == [SSPMS32.info.nfe_start + SSPMS32.info.nfe_step * steps] * 2


def test_unequal_steps_are_refused():
    with pytest.raises(InputError):
        solve(ODETerm(growth), torch.ones(2, 1), [0.0, 0.1, 1.0], solver=SSPMS32())
