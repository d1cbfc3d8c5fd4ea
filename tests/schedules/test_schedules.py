"""Schedules are what their papers say, to rounding, in float64 and float32, and so are their inverses."""

import math
import pickle
from itertools import pairwise

import numpy as np
import pytest
import torch
from published_schedules import ALL, CONTINUOUS, TABLES, formula, times

from deqlight.errors import InputError, ShapeError
from deqlight.schedules import (
    EDM,
    VE,
    VP,
    Cosine,
    CosineTable,
    DDPMTable,
    Preconditioned,
    RectifiedFlow,
    SubVP,
    Trigonometric,
)

EXACT = 1e-12
"""Rounding of float64, through a dozen functions."""

SINGLE = 1e-5
"""That of float32."""

NAMES = {"ids": repr}


def early(schedule, count=101):
    """Times where the published formula holds, each a float32, and close to the clean end too."""
    low, high = schedule.ends
    high = {Cosine: 0.97, RectifiedFlow: 0.999, Trigonometric: 0.999}.get(type(schedule), 1.0) * high
    close = [low + (high - low) * 2.0**-k for k in range(20)]
    given = [float(np.float32(t)) for t in [*close, *times(schedule, count)]]
    return [t for t in given if low <= t <= high]


@pytest.mark.parametrize("schedule", CONTINUOUS, **NAMES)
def test_floats_and_tensors_of_both_precisions_are_the_papers_formulas(schedule):
    given = early(schedule)
    exact = [formula(schedule, t) for t in given]
    wanted = {
        "alpha": [float(a) for a, s in exact],
        "sigma": [float(s) for a, s in exact],
        "rho": [float(s / a) for a, s in exact],
        "scale": [float(a) for a, s in exact],
    }
    for name, want in wanted.items():
        of = getattr(schedule, name)
        asked = wanted["rho"] if name == "scale" else given
        assert [of(t) for t in asked] == pytest.approx(want, rel=EXACT)
        assert of(torch.tensor(asked, dtype=torch.float64)).tolist() == pytest.approx(want, rel=EXACT)
        assert of(torch.tensor(asked)).tolist() == pytest.approx(want, rel=SINGLE)
    want = [math.log(a / s) for a, s in exact if s]
    asked = [t for t, (_, s) in zip(given, exact, strict=True) if s]
    assert [schedule.lam(t) for t in asked] == pytest.approx(want, rel=EXACT, abs=EXACT)
    assert schedule.lam(torch.tensor(asked)).tolist() == pytest.approx(want, rel=SINGLE, abs=SINGLE)


@pytest.mark.parametrize("schedule", ALL, **NAMES)
def test_time_is_the_inverse_from_end_to_end(schedule):
    late, early = map(schedule.time, schedule.rho_ends)
    assert (early, late) == pytest.approx(schedule.ends, abs=1.001e-3)  # a flow keeps its margin
    for i in range(301):
        t = early + (late - early) * (i / 300) ** 3  # more of them where there is little noise
        rho = schedule.rho(t)
        assert schedule.time(rho) == pytest.approx(t, rel=EXACT, abs=EXACT * late)
        assert schedule.rho(schedule.time(rho)) == pytest.approx(rho, rel=EXACT)
        assert schedule.alpha(t) == pytest.approx(schedule.scale(rho), rel=EXACT)


@pytest.mark.parametrize("schedule", ALL, **NAMES)
def test_time_is_the_inverse_in_single_precision(schedule):
    most, least = schedule.rho_ends
    rho = torch.logspace(math.log10(least), math.log10(most), 1001, dtype=torch.float64)[1:-1].float()
    time, exact = schedule.time(rho), schedule.time(rho.double())
    assert time.dtype == torch.float32
    floor = 0.01 * schedule.ends[1]  # ρ of VE says no more of the time near 0
    assert float(((time - exact).abs() / exact.clamp(min=floor)).max()) < SINGLE
    if not isinstance(schedule, VE):
        assert float(((time - exact).abs() / exact).max()) < SINGLE
    back = schedule.rho(exact) / rho - 1
    assert float(back.abs().max()) < EXACT


@pytest.mark.parametrize("schedule", ALL, **NAMES)
def test_drift_and_diffusion_are_the_derivatives_of_alpha_and_sigma(schedule):
    t = torch.tensor(times(schedule, 88, 0.004), dtype=torch.float64, requires_grad=True)  # no label among them
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    log_slope, slope, variance_slope = (
        torch.autograd.grad((y + 0 * t).sum(), t, retain_graph=True)[0] for y in (alpha.log(), sigma, sigma**2)
    )
    f, g, (da, ds) = schedule.drift(t), schedule.diffusion(t), schedule.slopes(t)
    assert torch.allclose(f, log_slope, rtol=EXACT, atol=EXACT)
    assert torch.allclose(g**2, variance_slope - 2 * f * sigma**2, rtol=1e-9, atol=EXACT)  # that is a difference
    assert torch.allclose(da, log_slope * alpha, rtol=EXACT, atol=EXACT)
    assert torch.allclose(ds, slope, rtol=EXACT, atol=EXACT)
    assert bool((g > 0).all()) and bool((f <= 0).all())


@pytest.mark.parametrize("schedule", ALL, **NAMES)
def test_numbers_keep_their_kind_shape_and_dtype(schedule):
    names = ("alpha", "sigma", "rho", "lam", "time", "scale", "drift", "diffusion")
    middle = sum(schedule.ends) / 2
    for name in names:
        of, asked = getattr(schedule, name), schedule.rho(middle) if name in {"time", "scale"} else middle
        value = of(asked)
        assert type(value) is float
        for dtype, tolerance in ((torch.float32, SINGLE), (torch.float64, EXACT)):
            for shape in [(), (3,), (2, 1, 1), (0,)]:
                out = of(torch.full(shape, asked, dtype=dtype))
                assert out.shape == shape and out.dtype == dtype
                assert torch.allclose(out, torch.tensor(value, dtype=dtype), rtol=tolerance, atol=tolerance)
    assert all(type(slope) is float for slope in schedule.slopes(middle))


@pytest.mark.parametrize("schedule", ALL, **NAMES)
def test_noise_grows_and_a_solve_has_finite_ends(schedule):
    rho = [schedule.rho(t) for t in times(schedule, 1001)]
    assert all(a < b for a, b in pairwise(rho))
    most, least = schedule.rho_ends
    assert 0 < least < most < math.inf
    assert schedule.scale(0.0) == pytest.approx(1, rel=EXACT)
    assert pickle.loads(pickle.dumps(schedule)) == schedule and hash(schedule) is not None


def test_the_prior_is_the_published_one():
    assert [s.prior_std for s in (VP(), SubVP(), Cosine(), DDPMTable(), RectifiedFlow())] == [1.0] * 5
    assert (VE().prior_std, EDM().prior_std) == (50.0, 80.0)
    for schedule in (
        VP(),
        SubVP(),
        Cosine(),
        DDPMTable(),
        CosineTable(),
        VE(),
        EDM(),
        RectifiedFlow(),
        Trigonometric(),
    ):
        assert schedule.sigma(schedule.ends[1]) == pytest.approx(schedule.prior_std, rel=1e-4)


def test_the_table_of_ddpm_is_the_published_one_at_its_labels():
    bars = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    schedule, t = DDPMTable(), [(i + 1) / 1000 for i in range(1000)]
    double = torch.tensor(t, dtype=torch.float64)
    assert [schedule.alpha(x) ** 2 for x in t] == pytest.approx(bars.tolist(), rel=EXACT)
    assert (schedule.alpha(double) ** 2).tolist() == pytest.approx(bars.tolist(), rel=EXACT)
    assert [schedule.label(x) for x in t] == pytest.approx(range(1000), abs=1e-12 * 1000)
    assert schedule.alpha(1.0) ** 2 == pytest.approx(4.0358e-5, rel=1e-5)  # as every implementation of it prints
    assert schedule.ends == (0.001, 1.0)


def test_the_cosine_table_is_the_published_one_at_its_labels():
    def bar(t):
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    betas = [min(1 - bar((i + 1) / 1000) / bar(i / 1000), 0.999) for i in range(1000)]
    schedule = CosineTable()
    assert schedule.betas.tolist() == pytest.approx(betas, abs=EXACT)
    assert sum(beta == 0.999 for beta in betas) == 1
    for i, want in enumerate(np.cumprod(1 - np.array(betas))):
        assert schedule.alpha((i + 1) / 1000) ** 2 == pytest.approx(want, rel=1e-11)  # a thousand differences
        if i < 999:
            assert Cosine().alpha((i + 1) / 1000) ** 2 == pytest.approx(want, rel=1e-11)


@pytest.mark.parametrize("schedule", TABLES, **NAMES)
def test_between_labels_log_alpha_is_straight(schedule):
    for i in range(schedule.steps - 1):
        a, b = (math.log(schedule.alpha((i + k) / schedule.steps)) for k in (1, 2))
        for share in (0.25, 0.5, 0.9):
            between = math.log(schedule.alpha((i + 1 + share) / schedule.steps))
            assert between == pytest.approx(a + share * (b - a), rel=1e-10)


def test_the_cosine_schedule_is_clipped_as_a_step_of_the_published_one():
    schedule = Cosine()
    assert 1 - math.exp(-schedule.beta(1.0) / 1000) == pytest.approx(0.999, rel=EXACT)
    assert schedule.beta(0.9996) < schedule.beta(0.9998) == schedule.beta(1.0)
    a, b, c = (math.log(schedule.alpha(t)) for t in (0.9998, 0.9999, 1.0))
    assert b - a == pytest.approx(c - b, rel=1e-9) and math.isfinite(schedule.rho(1.0))
    t = torch.tensor([0.5, 1.0], requires_grad=True)
    schedule.rho(t).sum().backward()
    assert bool(t.grad.isfinite().all())


def test_a_flow_has_infinite_rho_at_the_end_of_time_and_goes_there_in_t():
    flow = RectifiedFlow()
    assert flow.ends == (0.0, 1.0) and flow.slopes(1.0) == (-1.0, 1.0) == flow.slopes(0.0)
    assert flow.rho(1.0) == flow.diffusion(1.0) == -flow.lam(1.0) == -flow.drift(1.0) == math.inf
    assert flow.rho(torch.ones(1)).item() == math.inf and flow.lam(0.0) == math.inf
    assert flow.rho_ends == pytest.approx((999, 1 / 999))
    assert RectifiedFlow(sigma_min=1e-4).rho_ends[1] == 1e-4 == RectifiedFlow(sigma_min=1e-4).sigma(0.0)


@pytest.mark.parametrize(
    ("schedule", "t", "rho"),
    [
        (VP(), -0.1, -1.0),
        (SubVP(), -1.0, -1e-9),
        (VE(), -0.5, 0.009),
        (EDM(), -1.0, -1.0),
        (Cosine(), 1.01, -1.0),
        (RectifiedFlow(), 1.1, -1.0),
        (Trigonometric(), 1.1, -1.0),
        (RectifiedFlow(sigma_min=0.1), -0.1, 0.09),
        (DDPMTable(), 0.0009, 0.0099),
        (DDPMTable(), 1.001, 158.0),
        (CosineTable(), math.nan, math.nan),
    ],
    ids=str,
)
def test_outside_of_a_schedule_floats_are_refused_and_tensors_are_nan(schedule, t, rho):
    for name, outside in [("sigma", t), ("rho", t), ("time", rho)]:
        with pytest.raises(InputError, match="the schedule is defined"):
            getattr(schedule, name)(outside)
        inside = schedule.rho(0.5) if name == "time" else 0.5
        value = getattr(schedule, name)(torch.tensor([outside, inside]))
        assert value.isnan().tolist() == [True, False]


def test_a_time_that_rounding_put_outside_is_the_end():
    for t in (np.nextafter(1.0, 2.0), np.nextafter(0.001, 0.0)):
        assert math.isfinite(DDPMTable().rho(float(t)))
    assert DDPMTable().time(DDPMTable().rho_ends[0] * (1 + 1e-15)) == pytest.approx(1.0)


def test_whole_numbers_are_refused():
    with pytest.raises(ShapeError, match="it needs floats"):
        VP().alpha(torch.arange(3))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: VP(beta_min=0.0), "beta_min=0.0, beta_max=20.0; they must be positive"),
        (lambda: VP(beta_min=2.0, beta_max=1.0), "the smaller first"),
        (lambda: SubVP(beta_max=math.inf), "SubVP got beta_min=0.1, beta_max=inf"),
        (lambda: VP(beta_max=math.nan), "beta_max=nan"),
        (lambda: VP(t_min=0.0), "t_min=0.0; it must be above 0"),
        (lambda: Cosine(t_min=1.0), "Cosine got t_min=1.0"),
        (lambda: VE(sigma_min=0.0), "VE got sigma_min=0.0"),
        (lambda: EDM(sigma_min=3.0, sigma_max=3.0), "the smaller first"),
        (lambda: Cosine(s=0.0), "s must be positive"),
        (lambda: CosineTable(clip=1.0), "CosineTable got s=0.008, clip=1.0"),
        (lambda: Cosine(clip=1e-3, steps=1), "before t_min=0.001"),
        (lambda: DDPMTable(steps=1), "steps=1; it needs at least 2 labels"),
        (lambda: DDPMTable(beta_end=1.0), "both must lie between 0 and 1"),
        (lambda: RectifiedFlow(sigma_min=-1e-9), "at least 0 and below 1"),
        (lambda: RectifiedFlow(margin=0.0), "ρ is infinite at t = 1"),
        (lambda: Trigonometric(margin=0.5), "ρ is infinite at t = 1"),
        (lambda: Preconditioned(sigma_data=0.0), "sigma_data=0.0; it must be positive"),
    ],
)
def test_constants_that_make_no_schedule_are_refused(make, told):
    with pytest.raises(InputError, match=told):
        make()


@pytest.mark.parametrize("schedule", [VP(), SubVP(), VE(), Cosine(), DDPMTable(), RectifiedFlow()], **NAMES)
def test_a_schedule_compiles_to_one_graph(schedule):
    torch.compiler.reset()

    def everything(t):
        rho = schedule.rho(t)
        known = schedule.alpha(t), schedule.sigma(t), schedule.lam(t), schedule.time(rho), schedule.scale(rho)
        return torch.stack([*known, schedule.drift(t), schedule.diffusion(t), *schedule.slopes(t)])

    t = torch.tensor([sum(schedule.ends) * share for share in (0.3, 0.5, 0.7)])
    compiled = torch.compile(everything, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(t), everything(t), rtol=SINGLE)
