"""Grids go down from end to end, without repeats, for any number of steps, and are spaced as they say."""

import math
from itertools import pairwise

import pytest
from published_schedules import ALL

from deqlight.errors import InputError
from deqlight.schedules import (
    EDM,
    VE,
    VP,
    CosineTable,
    FlowTime,
    Karras,
    Quadratic,
    RectifiedFlow,
    UniformLogSNR,
    UniformTime,
)

ROUNDING = 1e-12

GRIDS = [UniformTime, UniformLogSNR, Quadratic, Karras, FlowTime]

STEPS = [*range(1, 21), 50, 127, 500, 999, 1000]


@pytest.mark.parametrize("counts", [STEPS, pytest.param(range(1, 1001), marks=pytest.mark.slow)], ids=["some", "all"])
@pytest.mark.parametrize("grid", [make(to_zero=zero) for make in GRIDS for zero in (False, True)], ids=repr)
@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_a_grid_goes_strictly_down_from_end_to_end(schedule, grid, counts):
    most, least = schedule.rho_ends
    for steps in counts:
        rho = grid.times(schedule, steps)
        assert len(rho) == steps + 1 and all(type(value) is float for value in rho)
        assert rho[0] == most and rho[-1] == (0.0 if grid.to_zero else least)
        assert all(a > b for a, b in pairwise(rho)) and math.isfinite(sum(rho))
        if grid.to_zero:
            assert rho[:-1] == (type(grid)().times(schedule, steps - 1) if steps > 1 else [most])
        for value in rho[: -1 if grid.to_zero else None]:
            schedule.time(value)  # there is such a time


def spacing(values):
    gaps = [b - a for a, b in pairwise(values)]
    return pytest.approx([sum(gaps) / len(gaps)] * len(gaps), rel=1e-9), gaps


@pytest.mark.parametrize("schedule", ALL, ids=repr)
@pytest.mark.parametrize(
    ("grid", "straight"),
    [
        (UniformTime(), lambda schedule, rho: schedule.time(rho)),
        (Quadratic(), lambda schedule, rho: math.sqrt(schedule.time(rho))),
        (UniformLogSNR(), lambda schedule, rho: schedule.lam(schedule.time(rho))),
        (Karras(), lambda schedule, rho: rho ** (1 / 7)),
        (Karras(power=1.5), lambda schedule, rho: rho ** (1 / 1.5)),
        (FlowTime(), lambda schedule, rho: (rho / (3 + rho)) ** 0.5),
        (FlowTime(power=1.5, scale=0.5), lambda schedule, rho: (rho / (0.5 + rho)) ** (1 / 1.5)),
    ],
    ids=["time", "its root", "log-SNR", "Karras", "another power", "flow time", "another scale"],
)
def test_steps_are_equal_in_the_variable_that_a_grid_is_named_after(grid, straight, schedule):
    equal, gaps = spacing([straight(schedule, rho) for rho in grid.times(schedule, 37)])
    assert gaps == equal


def test_karras_to_zero_has_the_times_of_the_paper():
    n, low, high = 18, 0.002, 80.0
    paper = [(high ** (1 / 7) + i / (n - 1) * (low ** (1 / 7) - high ** (1 / 7))) ** 7 for i in range(n)]
    assert Karras(to_zero=True).times(EDM(), n) == pytest.approx([*paper, 0.0], rel=ROUNDING)


def test_ve_is_uniform_in_time_where_it_is_in_log_snr():
    assert UniformTime().times(VE(), 10) == pytest.approx(UniformLogSNR().times(VE(), 10), rel=ROUNDING)


def test_a_table_is_stepped_label_by_label():
    schedule = CosineTable(steps=30)
    rho = UniformTime().times(schedule, 29)
    assert [schedule.label(schedule.time(value)) for value in rho] == pytest.approx(range(29, -1, -1), abs=1e-10)


@pytest.mark.parametrize("steps", [0, -3])
def test_no_steps_are_refused(steps):
    with pytest.raises(InputError, match=f"Karras got steps={steps}; it must be at least 1"):
        Karras().times(VP(), steps)


def test_steps_too_many_to_tell_apart_are_refused():
    near = EDM(sigma_min=1.0, sigma_max=1.0 + 1e-15)
    with pytest.raises(InputError, match="take fewer steps"):
        UniformTime().times(near, 100)


@pytest.mark.parametrize("power", [0.0, -7.0, math.inf, math.nan])
def test_a_power_that_spaces_nothing_is_refused(power):
    with pytest.raises(InputError, match="positive and finite"):
        Karras(power=power)


@pytest.mark.parametrize(
    "options", [{"power": 0.0}, {"scale": -1.0}, {"scale": math.inf}, {"power": math.nan}], ids=str
)
def test_a_flow_time_that_spaces_nothing_is_refused(options):
    with pytest.raises(InputError, match="both must be positive and finite"):
        FlowTime(**options)


def test_flow_time_of_scale_one_is_the_time_of_a_flow():
    schedule = RectifiedFlow()
    assert FlowTime(power=1.0, scale=1.0).times(schedule, 9) == pytest.approx(
        UniformTime().times(schedule, 9), rel=1e-9
    )
