"""What a noise regulariser says of its mean and spread is what its draws have; its deep limit is the one it says."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from deqlight import Layered, ODETerm, Partitioned, solve
from deqlight.brownian import Increments, Key, keyed
from deqlight.controllers import PID, Constant
from deqlight.errors import InputError
from deqlight.fields import MLP, Branches
from deqlight.gradients import Checkpoint, Reversible
from deqlight.regularizers import (
    Dropout,
    DropPath,
    GaussianNoise,
    NoiseRegularizer,
    RandomBatch,
    ShakeDrop,
    ShakeShake,
    StochasticDepth,
)
from deqlight.solvers import RK4, Dopri5, Euler, Heun, Leapfrog, ReversibleHeun, SymplecticEuler

MANY = 1_000_000
SIGMAS = 5.0  # standard errors: one in two million draws of a true mean lies farther


class Fixed(nn.Module):
    """A field with a value of its own, whatever the state."""

    def __init__(self, values):
        super().__init__()
        self.values = nn.Parameter(torch.tensor(values, dtype=torch.float64))

    def forward(self, t, y):
        return self.values.expand_as(y)


def two_branches(values, others):
    field = Branches(2, lambda channels: Fixed(values))
    field.second.values.data = torch.tensor(others, dtype=torch.float64)
    return field


FIELD = (0.7, -0.4)
ALL = [
    Dropout(p=0.2),
    GaussianNoise(sigma=0.3),
    GaussianNoise(sigma=0.3, proportional="state"),
    GaussianNoise(sigma=0.3, proportional="branch"),
    StochasticDepth(survival=0.6),
    ShakeDrop(survival=0.6),
    ShakeShake(mode="keep"),
    DropPath(p=0.3, columns=0.0),
]
GAUSSIAN = [type(r)(**{**vars(r), "noise": "gaussian"}) for r in ALL]


def block(regularizer):
    field = two_branches(FIELD, (-0.2, 0.5)) if isinstance(regularizer, ShakeShake | DropPath) else Fixed(FIELD)
    return Layered([field]).double()


@pytest.mark.parametrize(
    "regularizer",
    [*ALL, *GAUSSIAN, ShakeShake(), ShakeDrop(survival=0.6, schedule="constant"), DropPath()],
    ids=repr,
)
def test_mean_and_covariance_of_a_block_are_drift_and_diffusion(regularizer, double):
    at_once = type(regularizer)(**{**vars(regularizer), "key": "rank"})
    term = at_once.wrap(block(regularizer))
    y0 = torch.tensor([0.5, -1.5]).expand(MANY, 2)
    with torch.no_grad(), keyed(Key(seed=1)):
        got = solve(term, y0, [0.0, 1.0], solver=Euler()).y1 - y0
    value = torch.tensor(FIELD).expand(2, 2)
    if isinstance(regularizer, ShakeShake | DropPath):
        value = torch.stack([value, torch.tensor((-0.2, 0.5)).expand(2, 2)], -1)
    drift, diffusion = (part[0] for part in regularizer.moments(value, y0[:2], 1.0))
    assert ((got.mean(0) - drift).abs() <= SIGMAS * got.std(0) / math.sqrt(MANY)).all()
    own = regularizer.kind != "scalar"
    expected = torch.diag(diffusion**2) if own else torch.outer(diffusion, diffusion)
    centred = got - drift
    products = centred[:, :, None] * centred[:, None, :]
    error = products.std(0) / math.sqrt(MANY) + 1e-12
    assert ((products.mean(0) - expected).abs() <= SIGMAS * error).all()


@pytest.mark.parametrize("regularizer", ALL, ids=repr)
def test_in_evaluation_the_field_has_its_mean(regularizer, double):
    for noise in ("discrete", "gaussian"):
        term = type(regularizer)(**{**vars(regularizer), "noise": noise}).wrap(block(regularizer)).eval()
        y0 = torch.randn(3, 2)
        value = torch.tensor(FIELD).expand(3, 2)
        if isinstance(regularizer, ShakeShake | DropPath):
            value = torch.stack([value, torch.tensor((-0.2, 0.5)).expand(3, 2)], -1)
        expected = y0 + regularizer.moments(value, y0, 1.0).f
        assert torch.equal(solve(term, y0, [0.0, 1.0], solver=Euler()).y1, expected)


@pytest.mark.parametrize("regularizer", [*ALL, ShakeShake(), DropPath(columns=0.6)], ids=repr)
def test_the_key_is_the_sample_s(regularizer, double):
    term = regularizer.wrap(block(regularizer))
    y0, ids = torch.randn(8, 2), torch.tensor([3, 1, 4, 15, 9, 2, 6, 5])
    with keyed(Key(0, 5, ids)):
        whole = solve(term, y0, [0.0, 1.0], solver=Euler()).y1
    for half in (slice(0, 3), slice(3, 8)):
        with keyed(Key(0, 5, ids[half])):
            assert torch.equal(solve(term, y0[half], [0.0, 1.0], solver=Euler()).y1, whole[half])
    with keyed(Key(0, 6, ids)):
        assert not torch.equal(solve(term, y0, [0.0, 1.0], solver=Euler()).y1, whole)


@pytest.mark.parametrize(
    "idle",
    [
        Dropout(p=0.0),
        GaussianNoise(sigma=0.0),
        StochasticDepth(survival=1.0),
        ShakeDrop(survival=1.0),
        RandomBatch(p=0.0),
        DropPath(p=0.0, columns=0.0),
    ],
)
def test_no_noise_is_no_change(idle):
    term = Layered([MLP(2)])
    assert idle.wrap(term) is term


def chain(regularizer, steps, samples=4000):
    """The final states of many samples through a smooth equation in `steps` steps."""
    term = regularizer.wrap(ODETerm(Decay()).double())
    y0 = torch.ones(samples, 1)
    with torch.no_grad(), keyed(Key(seed=2)):
        return solve(term, y0, [0.0, 1.0], solver=Euler(), controller=Constant(steps=steps)).y1


class Decay(nn.Module):
    def forward(self, t, y):
        return -y


@pytest.mark.parametrize(
    "regularizer",
    [
        Dropout(p=0.2),
        StochasticDepth(survival=0.5, schedule="constant"),
        ShakeDrop(survival=0.5, schedule="constant"),
        GaussianNoise(sigma=0.5),
    ],
    ids=repr,
)
@pytest.mark.parametrize("noise", ["discrete", "gaussian"])
def test_the_deep_limit_is_the_one_that_is_said(regularizer, noise, double):
    """The spread at the end vanishes with the root of the step towards an ODE, and stays towards an SDE."""
    for scaling in ("ode", "sde"):
        deep = type(regularizer)(**{**vars(regularizer), "noise": noise, "scaling": scaling})
        few, many = (float(chain(deep, n).std()) for n in (16, 256))
        assert deep.limit == scaling
        if scaling == "ode":
            assert many / few == pytest.approx(0.25, rel=0.1)
        else:
            assert many / few == pytest.approx(1.0, rel=0.1)


@pytest.mark.parametrize("scaling", ["ode", "sde"])
def test_discrete_and_gaussian_noise_have_one_limit(scaling, double):
    a, b = (chain(Dropout(p=0.3, noise=noise, scaling=scaling), 64) for noise in ("discrete", "gaussian"))
    assert float(a.mean()) == pytest.approx(float(b.mean()), abs=0.02)
    assert float(a.std()) == pytest.approx(float(b.std()), rel=0.08)


@pytest.mark.parametrize("mode", ["shake", "even", "keep"])
@pytest.mark.parametrize("level", ["image", "batch"])
def test_shake_shake_has_a_gradient_of_its_own(mode, level, double):
    """d u₁/d f₁ is β for each sample, while the value is α f₁ + (1 − α) f₂."""
    term = ShakeShake(mode=mode, level=level).wrap(block(ShakeShake()))
    y0 = torch.zeros(6, 2)
    with keyed(Key(seed=3)):
        drawn = term.drawn(y0, grid(0.0, 1.0), 0)
    alpha, beta = drawn.numbers[:, 0].unbind(1)
    with keyed(Key(seed=3)):
        y1 = solve(term, y0, [0.0, 1.0], solver=Euler()).y1
    first, second = torch.tensor(FIELD), torch.tensor((-0.2, 0.5))
    torch.testing.assert_close(y1, (alpha * first + (1 - alpha) * second).expand(6, 2), rtol=0, atol=1e-15)
    y1.sum().backward()
    weight = {"shake": beta, "even": torch.full_like(beta, 0.5), "keep": alpha}[mode].expand(6, 1)
    branches = term.inner.layers[0].field.field.field
    torch.testing.assert_close(branches.first.values.grad, weight.sum().expand(2), rtol=1e-14, atol=0)
    torch.testing.assert_close(branches.second.values.grad, (1 - weight).sum().expand(2), rtol=1e-14, atol=0)
    assert (len(torch.unique(alpha)) == 1) == (level == "batch")


def grid(*times):
    from deqlight.brownian import Grid

    return Grid(lambda: times, True)


def test_shake_drop_has_a_gradient_of_its_own(double):
    term = ShakeDrop(survival=0.3).wrap(Layered([Fixed(FIELD)]).double())
    y0 = torch.zeros(64, 2)
    with keyed(Key(seed=3)):
        b, alpha, beta = term.drawn(y0, grid(0.0, 1.0), 0).numbers[:, 0].unbind(1)
    with keyed(Key(seed=3)):
        y1 = solve(term, y0, [0.0, 1.0], solver=Euler()).y1
    b, alpha = (b < 0.3).double(), 2 * alpha - 1
    torch.testing.assert_close(y1, (b + alpha - b * alpha) * torch.tensor(FIELD), rtol=1e-14, atol=1e-15)
    y1.sum().backward()
    expected = (b + beta - b * beta).sum().expand(2)
    torch.testing.assert_close(term.inner.layers[0].field.values.grad, expected, rtol=1e-14, atol=0)
    assert 0 < b.sum() < 64


SAMPLES = 100_000


def live(regularizer, solves=1, steps=3):
    """The first branch's share in each step, `(steps of all solves, samples)`: 0, 1/2 or 1, told by what it adds."""
    field = two_branches((1.0, 0.0), (0.0, 1.0))
    term, y0 = regularizer.wrap(Layered([field] * steps).double()), torch.zeros(SAMPLES, 2)
    found = []
    with torch.no_grad(), keyed(Key(seed=4)):
        for _ in range(solves):
            moves = solve(term, y0, range(steps + 1), solver=Euler()).ys.diff(dim=0)
            assert torch.equal(moves.sum(2), torch.ones(steps, SAMPLES))  # nothing is rescaled, one at least is live
            found.append(moves[..., 0])
    return torch.cat(found)


def test_drop_path_keeps_one_branch_at_least(double):
    p = 0.4
    alpha = live(DropPath(p=p, columns=0.0, key="rank"))
    assert set(alpha.unique().tolist()) == {0.0, 0.5, 1.0}
    for value, chance in ((0.5, (1 - p) ** 2), (0.0, p - p**2 / 2), (1.0, p - p**2 / 2)):
        share = (alpha == value).double().mean(1)
        assert ((share - chance).abs() < SIGMAS * math.sqrt(chance * (1 - chance) / SAMPLES)).all()
    assert (alpha[0] != alpha[1]).any()


def test_drop_path_s_columns_go_through_the_whole_network(double):
    """Two stages are two solves: a sample that has one branch alone has the same in each step of both."""
    alpha = live(DropPath(p=0.4, columns=0.5, key="rank"), solves=2)
    alone = (alpha != 0.5).all(0) & (alpha == alpha[0]).all(0)
    by_chance = 2 * (0.4 - 0.08) ** 6
    expected = 0.5 + 0.5 * by_chance
    assert abs(float(alone.double().mean()) - expected) < SIGMAS * 0.5 / math.sqrt(SAMPLES)
    whole = live(DropPath(p=0.4, columns=1.0, key="rank"), solves=2)
    assert torch.equal(whole, whole[:1].expand_as(whole)) and set(whole.unique().tolist()) == {0.0, 1.0}
    one = live(DropPath(columns=1.0, per="batch"), solves=2)
    assert len(one.unique()) == 1
    assert DropPath().limit == "random ode" and DropPath(columns=0.0).limit == "ode"


def test_depth_is_counted_from_one_and_the_last_survives_with_p_l(double):
    regularizer, layers = StochasticDepth(survival=0.5), 5
    seen = []

    class Spy(StochasticDepth):
        def perturbed(self, f, y, numbers, depth):
            seen.append(self.survives(depth))
            return super().perturbed(f, y, numbers, depth)

    term = Spy(survival=0.5).wrap(Layered(Fixed(FIELD) for _ in range(layers)).double())
    solve(term, torch.zeros(1, 2), range(layers + 1), solver=Euler())
    assert seen == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.5])
    seen.clear()
    solve(term, torch.zeros(1, 2), range(layers + 1), solver=Euler(), controller=Constant(steps=2))
    assert seen == pytest.approx([0.9, 0.9, 0.8, 0.8, 0.7, 0.7, 0.6, 0.6, 0.5, 0.5])
    assert regularizer.survives(1.0) == 0.5


def test_a_batch_that_leaves_a_branch_out_does_not_evaluate_it_and_still_gives_it_a_gradient(double):
    calls = []

    class Counted(Fixed):
        def forward(self, t, y):
            calls.append(t)
            return super().forward(t, y)

    layers = [Counted(FIELD) for _ in range(12)]
    term = StochasticDepth(survival=0.2, per="batch").wrap(Layered(layers).double())
    with keyed(Key(seed=0)):
        y1 = solve(term, torch.zeros(3, 2), range(13), solver=Euler()).y1
    assert 0 < len(calls) < 12
    y1.sum().backward()
    assert all(layer.values.grad is not None for layer in layers)
    assert sum(bool((layer.values.grad == 0).all()) for layer in layers) == 12 - len(calls)
    assert torch.equal(y1, len(calls) * torch.tensor(FIELD).expand(3, 2)) or torch.allclose(
        y1, len(calls) * torch.tensor(FIELD).expand(3, 2), rtol=1e-14
    )


@pytest.mark.parametrize(
    ("solver", "gradient"), [(Leapfrog(), Reversible()), (RK4(), Checkpoint()), (ReversibleHeun(), Reversible())]
)
def test_replayed_noise_is_the_same(solver, gradient, double):
    """Gradients that evaluate again see the mask of the way forth."""
    grads = []
    for rule in (None, gradient):
        torch.manual_seed(0)
        layers = Layered(MLP(3, hidden=4, depth=1) for _ in range(5))
        term = StochasticDepth(survival=0.5).wrap(Dropout(p=0.3).wrap(layers))
        with keyed(Key(seed=7)):
            given = {} if rule is None else {"gradient": rule}
            y1 = solve(term, torch.ones(4, 3), range(6), solver=solver, **given).y1
        grads.append(torch.autograd.grad(y1.square().sum(), list(layers.parameters())))
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-13)


def test_each_half_of_a_partitioned_term_has_noise_of_its_own(double):
    halves = Partitioned(Layered([Fixed((1.0,) * 64)]), Layered([Fixed((1.0,) * 64)])).double()
    term = Dropout(p=0.5).wrap(halves)
    q, p = solve(term, (torch.zeros(1, 64), torch.zeros(1, 64)), [0.0, 1.0], solver=SymplecticEuler()).y1
    assert set(q.unique().tolist()) == {0.0, 2.0} == set(p.unique().tolist())
    assert not torch.equal(q, p)


def test_all_stages_of_a_step_see_one_mask(double):
    """On a field without state and time, every Runge–Kutta method takes Euler's step."""
    term = Dropout(p=0.5).wrap(Layered([Fixed(FIELD)] * 3).double())
    ends = []
    for solver in (Euler(), Heun(), RK4()):
        with keyed(Key(seed=0)):
            ends.append(solve(term, torch.zeros(5, 2), range(4), solver=solver).y1)
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-14, atol=1e-15)
    torch.testing.assert_close(ends[0], ends[2], rtol=1e-14, atol=1e-15)


def test_random_batches_tend_to_the_equation_and_go_with_measured_steps(double):
    y0 = torch.ones(2000, 1)
    spreads = []
    for interval in (0.25, 0.0625):
        term = RandomBatch(p=0.5, interval=interval).wrap(ODETerm(Decay()))
        with torch.no_grad(), keyed(Key(seed=0)):
            ends = solve(term, y0, [0.0, 1.0], solver=Dopri5(), controller=PID(1e-6, 1e-6, norm="joint")).y1
        spreads.append(float(ends.std()))
        kept = torch.round(-torch.log(ends) / (2 * interval))  # the mask is exact: exp(−2 · interval · kept)
        torch.testing.assert_close(ends, torch.exp(-2 * interval * kept), rtol=1e-5, atol=0)
    assert spreads[1] / spreads[0] == pytest.approx(0.5, rel=0.15)


def test_a_random_batch_lasts_its_interval_for_each_clock(double):
    term = RandomBatch(p=0.5, interval=0.25).wrap(ODETerm(Decay()))
    y0 = torch.ones(40, 1)
    with torch.no_grad(), keyed(Key(seed=0)):
        joint = solve(term, y0, [0.0, 1.0], solver=Dopri5(), controller=PID(1e-8, 1e-8, norm="joint")).y1
    with torch.no_grad(), keyed(Key(seed=0)):
        own = solve(term, y0, [0.0, 1.0], solver=Dopri5(), controller=PID(1e-8, 1e-8)).y1
    torch.testing.assert_close(joint, own, rtol=1e-7, atol=0)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Dropout(p=1.0), "p=1.0"),
        (lambda: Dropout(p=0.5, noise="gauss"), "discrete, gaussian"),
        (lambda: Dropout(convert=True), "noise='gaussian'"),
        (lambda: GaussianNoise(sigma=-1.0), "sigma=-1.0"),
        (lambda: GaussianNoise(proportional="u"), "additive, state, branch"),
        (lambda: StochasticDepth(survival=0.0), r"\(0, 1\]"),
        (lambda: StochasticDepth(schedule="cosine"), "linear, constant"),
        (lambda: StochasticDepth(per="batch", noise="gaussian"), "per='sample'"),
        (lambda: ShakeShake(mode="Shake"), "shake, even, keep"),
        (lambda: ShakeShake(noise="gaussian"), "mode='keep'"),
        (lambda: ShakeShake().wrap(Layered([MLP(2)])), "Branches"),
        (lambda: DropPath(p=1.0), "p=1.0"),
        (lambda: DropPath(columns=1.5), "columns=1.5"),
        (lambda: DropPath(per="image"), "sample, batch"),
        (lambda: DropPath(noise="gaussian"), "columns=0"),
        (lambda: DropPath(columns=0.0, per="batch", noise="gaussian"), "per='sample'"),
        (lambda: DropPath().wrap(Layered([MLP(2)])), "Branches"),
        (lambda: RandomBatch(interval=0.0), "above 0"),
        (lambda: RandomBatch(scaling="sde"), "discrete"),
        (lambda: Dropout().wrap(Dropout(noise="gaussian").wrap(Layered([MLP(2)]))), "comes last"),
    ],
)
def test_what_makes_no_sense_is_refused(make, words):
    with pytest.raises(InputError, match=words):
        make()


def test_noise_of_steps_needs_known_steps():
    term = Dropout().wrap(ODETerm(MLP(2)))
    with pytest.raises(InputError, match="RandomBatch"):
        solve(term, torch.zeros(1, 2), [0.0, 1.0], solver=Dopri5(), controller=PID(1e-3, 1e-3, norm="joint"))


def test_stratonovich_solvers_refuse_the_diffusion_limit_unless_it_is_converted(double):
    layers = Layered(MLP(2) for _ in range(3))
    y0 = torch.ones(2, 2)
    with pytest.raises(InputError, match="Converted"):
        solve(Dropout(noise="gaussian").wrap(layers), y0, range(4), solver=Heun())
    with pytest.raises(InputError, match="depends on others"):  # each number has its own noise, of all numbers' field
        solve(Dropout(p=0.1, noise="gaussian", convert=True).wrap(layers), y0, range(4), solver=Heun())
    converted = StochasticDepth(noise="gaussian", schedule="constant", convert=True).wrap(layers)
    assert solve(converted, y0, range(4), solver=Heun()).y1.isfinite().all()
    quiet = solve(converted.eval(), y0, range(4), solver=Heun()).y1
    mean = StochasticDepth(schedule="constant").wrap(layers).eval()
    torch.testing.assert_close(quiet, solve(mean, y0, range(4), solver=Heun()).y1, rtol=1e-14, atol=1e-14)


def test_converted_noise_has_the_same_paths(double):
    """Heun on the converted equation and Euler on Itô's meet as the steps shrink, on one Brownian motion."""
    term, steps = ODETerm(Decay()), 512
    base = [n / steps for n in range(steps + 1)]

    class Seeded(Dropout):
        @property
        def brownian(self):
            return Increments(seed=4, base=base)

    y0 = torch.ones(500, 1)
    ito, other = (Seeded(p=0.2, noise="gaussian", scaling="sde", convert=c).wrap(term) for c in (False, True))
    with torch.no_grad():
        a = solve(ito, y0, base, solver=Euler()).y1
        b = solve(other, y0, base, solver=Heun()).y1
    assert float((a - b).abs().mean()) < 0.01 < float(a.std()) / 10


def test_every_regularizer_says_its_class():
    assert all(isinstance(r, NoiseRegularizer) for r in ALL)
