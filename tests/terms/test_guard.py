"""The guard: a field is one function during a solve, whatever layers it has, and its statistics count once."""

import pytest
import torch
from torch import nn

from deqlight import Layered, ODETerm, Partitioned, solve
from deqlight.controllers import PID, Constant
from deqlight.errors import InputError, NonFinite
from deqlight.gradients import Checkpoint, Direct, Reversible
from deqlight.policies import Freeze
from deqlight.solvers import RK4, Dopri5, Euler, Heun, Kvaerno5, Leapfrog, ReversiblePair, SymplecticEuler

SAME = 1e-10  # relative, of two exact gradients in float64
DIFFERENCE = 1e-7  # relative, of a gradient and central differences over 1e-5 in float64
TIMES = [0.0, 0.5, 1.0, 1.5]


class Noisy(nn.Module):
    """A small network with dropout, which notes the masks that it draws."""

    def __init__(self, width=4, norm=None, p=0.5):
        super().__init__()
        self.inner, self.outer = nn.Linear(width, width), nn.Linear(width, width)
        self.norm, self.drop = norm or nn.Identity(), nn.Dropout(p)
        self.masks = []

    def forward(self, t, y):
        mask = self.drop(torch.ones_like(y))
        self.masks.append(mask)
        return self.outer(mask * torch.tanh(self.norm(self.inner(y)) + t))


def seeded(term, y0, seed=0, **options):
    torch.manual_seed(seed)
    options = {"solver": RK4(), **options}
    return solve(term, y0, options.pop("ts", TIMES), **options)


def solved(*args, **options):
    return seeded(*args, **options).y1


FUNCTIONS = {
    "RK4": {"solver": RK4()},
    "Dopri5": {"solver": Dopri5(), "controller": PID(1e-5, 1e-5, norm="joint")},
    "steps": {"solver": Heun(), "controller": Constant(steps=5)},
}


@pytest.mark.parametrize("case", FUNCTIONS)
def test_the_mask_is_that_of_the_solve(case):
    field, y0 = Noisy(), torch.randn(3, 4)
    one, calls = solved(ODETerm(field), y0, **FUNCTIONS[case]), len(field.masks)
    assert calls > 6 and all(torch.equal(mask, field.masks[0]) for mask in field.masks)
    another = solve(ODETerm(field), y0, TIMES, **FUNCTIONS[case]).y1
    assert not torch.equal(field.masks[calls], field.masks[0]) and not torch.equal(one, another)
    assert torch.equal(one, solved(ODETerm(field), y0, **FUNCTIONS[case]))


def test_a_solve_moves_the_generator_as_one_call_does():
    field, y0 = Noisy(), torch.randn(3, 4)
    solved(ODETerm(field), y0)
    after = torch.rand(1)
    torch.manual_seed(0)
    field(0.0, y0)
    assert torch.equal(after, torch.rand(1))


def test_measured_steps_converge_to_the_solution_of_the_drawn_field(double):
    """They would not, if each call drew another mask: no step would be small enough."""
    term, y0 = ODETerm(Noisy()), torch.randn(3, 4)
    exact = solved(term, y0, controller=Constant(steps=100))
    for tolerance in (1e-4, 1e-8):
        solution = seeded(term, y0, solver=Dopri5(), controller=PID(tolerance, tolerance, norm="joint"))
        assert float((solution.y1 - exact).detach().abs().max()) < 10 * tolerance
        assert int(solution.stats.nfe[0]) < 200


METHODS = {
    "direct": (RK4(), Direct(), None),
    "direct, measured": (Dopri5(), Direct(), PID(1e-3, 1e-3, norm="joint")),
    "taken again": (RK4(), Checkpoint(2), Constant(steps=3)),
    "taken again, measured": (Dopri5(), Checkpoint(2), PID(1e-3, 1e-3, norm="joint")),
    "undone": (Leapfrog(), Reversible(), None),
    "undone, stages": (ReversiblePair(RK4()), Reversible(), Constant(steps=2)),
}


@pytest.mark.parametrize("case", METHODS)
def test_gradients_are_those_of_the_drawn_field(case, double):
    """Against differences of solves from the same seed, along a random direction in the state and all parameters."""
    solver, gradient, controller = METHODS[case]
    term, y0 = ODETerm(Noisy()), torch.randn(3, 4, requires_grad=True)
    tensors = [y0, *term.parameters()]
    directions = [torch.randn_like(tensor) for tensor in tensors]

    def loss():
        return solved(term, y0, solver=solver, gradient=gradient, controller=controller).square().sum()

    grads = torch.autograd.grad(loss(), tensors)
    along = sum((g * d).sum() for g, d in zip(grads, directions, strict=True))
    sides, small = [], 1e-5
    with torch.no_grad():
        for sign in (1, -2):
            for tensor, d in zip(tensors, directions, strict=True):
                tensor.add_(d, alpha=sign * small)
            sides.append(loss())
    assert torch.allclose(along, (sides[0] - sides[1]) / (2 * small), rtol=DIFFERENCE)


def norms(module):
    return [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)]


@pytest.mark.parametrize("case", METHODS)
def test_statistics_count_once(case):
    solver, gradient, controller = METHODS[case]
    field = Noisy(norm=nn.BatchNorm1d(4, momentum=1.0))
    y0 = torch.randn(6, 4, requires_grad=True)
    expected = field.inner(y0).mean(0)
    solution = seeded(ODETerm(field), y0, solver=solver, gradient=gradient, controller=controller)
    solution.y1.sum().backward()
    assert int(field.norm.num_batches_tracked) == 1 and field.norm.track_running_stats
    assert torch.allclose(field.norm.running_mean, expected, atol=1e-6)
    seeded(ODETerm(field), y0, solver=solver, gradient=gradient, controller=controller).y1.sum().backward()
    assert int(field.norm.num_batches_tracked) == 2


def test_statistics_of_single_samples_count_once_too():
    norm = nn.InstanceNorm1d(2, momentum=1.0, track_running_stats=True)
    y0, means = torch.randn(3, 2, 5), []

    def field(t, y):
        means.append(y.mean((0, 2)))
        return torch.tanh(norm(y))

    solved(ODETerm(field), y0)
    assert len(means) == 12 and torch.allclose(norm.running_mean, means[0], atol=1e-6)


def test_a_residual_network_is_the_loop_written_by_hand():
    """Each field is called once: masks, statistics and random numbers are those without a solve."""
    twins = []
    for _ in range(2):
        torch.manual_seed(1)
        twins.append([Noisy(norm=nn.BatchNorm1d(4)) for _ in range(3)])
    y0 = torch.randn(5, 4)
    got = solved(Layered(twins[0]), y0, ts=range(4), solver=Euler())
    after = torch.rand(1)
    torch.manual_seed(0)
    y = y0
    for n, block in enumerate(twins[1]):
        y = y + block(float(n), y)
    assert torch.equal(got, y) and torch.equal(after, torch.rand(1))
    for one, other in zip(*map(nn.ModuleList, twins), strict=True):
        assert all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))
        assert torch.equal(one.masks[0], other.masks[0])


def test_layers_draw_masks_of_their_own_and_share_those_of_a_shared_block():
    blocks, y0 = [Noisy(), Noisy()], torch.randn(3, 4)
    solved(Layered([*blocks, blocks[0]]), y0, ts=range(4))
    first, second = (block.masks for block in blocks)
    assert len(first) == 8 and len(second) == 4
    assert all(torch.equal(mask, first[0]) for mask in first) and not torch.equal(first[0], second[0])


def test_halves_draw_masks_of_their_own(double):
    term, y0 = Partitioned(Noisy(), Noisy()), (torch.randn(3, 4), torch.randn(3, 4))
    solved(term, y0, solver=SymplecticEuler())
    q, p = (part.field.masks for part in term.parts)
    assert torch.equal(q[0], q[-1]) and torch.equal(p[0], p[-1]) and not torch.equal(q[0], p[0])


class Solving(nn.Module):
    """A field that solves: its value is the end of another solve."""

    def __init__(self, field):
        super().__init__()
        self.field = field

    def forward(self, t, y):
        return solve(ODETerm(self.field), y, [0.0, 0.5], solver=Heun()).y1


@pytest.mark.parametrize("outer", [Solving, lambda inner: lambda t, y: Solving(inner)(t, y)], ids=["module", "closure"])
def test_solves_inside_a_field(outer, double):
    """The inner solve draws once each time it is run, the outer one has it draw the same each time."""
    inner, y0 = Noisy(norm=nn.BatchNorm1d(4)), torch.randn(3, 4)
    one = solved(ODETerm(outer(inner)), y0)
    assert len(inner.masks) == 24 and all(torch.equal(mask, inner.masks[0]) for mask in inner.masks)
    assert int(inner.norm.num_batches_tracked) == 1
    assert torch.equal(one, solved(ODETerm(outer(inner)), y0))


class Owner(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(4)

    def field(self, t, y):
        return torch.tanh(self.norm(y))


def closing(owner):
    return lambda t, y: torch.tanh(owner.norm(y))


@pytest.mark.parametrize("field", [lambda owner: owner.field, closing], ids=["method", "closure"])
def test_layers_of_functions_are_seen(field):
    owner = Owner()
    solved(ODETerm(field(owner)), torch.randn(3, 4))
    assert int(owner.norm.num_batches_tracked) == 1


def test_a_field_inside_a_hook_is_the_same_field():
    field = Noisy(norm=nn.BatchNorm1d(4))
    solved(Layered([field, field]).wrap(lambda field, t, y: 0.5 * field(t, y)), torch.randn(3, 4), ts=[0, 1, 2])
    assert len(field.masks) == 8 and all(torch.equal(mask, field.masks[0]) for mask in field.masks)
    assert int(field.norm.num_batches_tracked) == 1


def test_errors_name_the_field_and_not_its_hooks():
    def exploding(t, y):
        return y / 0

    with pytest.raises(NonFinite, match="field 'exploding'"):
        solve(ODETerm(exploding).wrap(lambda field, t, y: field(t, y)), torch.ones(1, 2), TIMES, solver=RK4())


def test_a_field_need_not_be_hashable():
    class Equal:
        def __eq__(self, other):
            return True

        def __call__(self, t, y):
            return -y

    assert torch.allclose(solved(ODETerm(Equal()), torch.ones(1, 1)), torch.tensor(1.0).exp() ** -1.5, rtol=1e-2)


class Cached(nn.Module):
    """Makes a buffer at its first call, and uses it from then on."""

    def __init__(self):
        super().__init__()
        self.register_buffer("table", None)

    def forward(self, t, y):
        if self.table is None:
            self.table = torch.full_like(y[0], -1.0)
        return self.table * y


class Averaging(nn.Module):
    """Keeps an average of what it sees, in place or anew."""

    def __init__(self, in_place):
        super().__init__()
        self.in_place = in_place
        self.register_buffer("seen", torch.zeros(4))

    def forward(self, t, y):
        if self.in_place:
            self.seen.lerp_(y.detach().mean(0), 0.1)
        else:
            self.seen = 0.9 * self.seen + 0.1 * y.detach().mean(0)
        return self.seen - y


class Spectral(nn.Module):
    def __init__(self, make):
        super().__init__()
        self.linear = make(nn.Linear(4, 4))

    def forward(self, t, y):
        return torch.tanh(self.linear(y))


@pytest.mark.parametrize("make", [nn.utils.parametrizations.spectral_norm, nn.utils.spectral_norm], ids=["new", "old"])
def test_spectral_norm_is_refused_where_it_would_change_during_the_solve(make):
    field, y0 = Spectral(make), torch.randn(3, 4)
    with pytest.raises(InputError, match=r"'Spectral' changes the buffer '(_u|weight_u)' .*'linear.*call eval\(\)"):
        solved(ODETerm(field), y0)
    solved(Layered([Spectral(make), Spectral(make)]), y0, ts=[0, 1, 2], solver=Euler())  # each is called once
    field.eval()
    solved(ODETerm(field), y0)


@pytest.mark.parametrize("in_place", [True, False])
def test_running_averages_are_refused(in_place):
    with pytest.raises(InputError, match="changes the buffer 'seen'"):
        solved(ODETerm(Averaging(in_place)), torch.randn(3, 4))


def test_buffers_that_stay_are_let_alone():
    solved(ODETerm(Cached()), torch.randn(3, 4))
    with torch.inference_mode():
        solved(ODETerm(Cached()), torch.randn(3, 4))


APART = {
    "a clock for each sample": {"solver": Dopri5(), "controller": PID(1e-3, 1e-3)},
    "ragged times": {"solver": RK4(), "ts": [[0.0, 1.0], [0.0, 0.5], [0.0, 0.2, 0.3]]},
    "an iteration for each sample": {"solver": Kvaerno5()},
}


@pytest.mark.parametrize("case", APART)
def test_random_fields_are_refused_where_samples_leave(case):
    term, y0 = ODETerm(Noisy()), torch.randn(3, 4)
    with pytest.raises(InputError, match=r"'Noisy' draws random numbers.*norm=\"joint\", or fixed steps"):
        solved(term, y0, **APART[case])
    term.eval()
    solved(term, y0, **APART[case])


def test_batch_statistics_are_refused_where_samples_leave():
    field, times = Noisy(norm=nn.BatchNorm1d(4), p=0.0), APART["ragged times"]
    with pytest.raises(InputError, match=r"'Noisy' has BatchNorm in training mode \('norm'\).*use GroupNorm2d"):
        solved(ODETerm(field), torch.randn(3, 4), **times)


def test_the_others_go_on_with_a_mask_as_well():
    """A sample that fails is left out, and the solve begun again: with the random numbers of another solve."""
    field, y0 = Noisy(), torch.randn(3, 4)
    y0[1] = torch.inf
    solution = seeded(ODETerm(field), y0, on_failure=Freeze())
    assert solution.y1[[0, 2]].isfinite().all() and solution.y1[1].isnan().all()


def compiled(term, y0, **options):
    torch.compiler.reset()
    run = torch.compile(lambda y: solve(term, y, [0, 1, 2], **options).y1, backend="aot_eager", fullgraph=True)
    y = y0.clone().requires_grad_()
    run(y).sum().backward()
    return y.grad


COMPILED = {
    "no such layers": (lambda: ODETerm(Noisy(p=0.0)), RK4()),
    "batch statistics": (lambda: ODETerm(Noisy(p=0.0, norm=nn.BatchNorm1d(4))), RK4()),
    "a residual network": (lambda: Layered([Noisy(norm=nn.BatchNorm1d(4)), Noisy()]), Euler()),
    "in eval mode": (lambda: ODETerm(Noisy()).eval(), RK4()),
}


@pytest.mark.parametrize("case", COMPILED)
def test_a_solve_compiles_to_one_graph(case):
    make, solver = COMPILED[case]
    term, y0 = make(), torch.randn(3, 4)
    assert compiled(term, y0, solver=solver).isfinite().all()
    assert all(int(norm.num_batches_tracked) == 1 and norm.track_running_stats for norm in norms(term))


LAYERS = {
    "dropout": nn.Dropout(),
    "attention": nn.MultiheadAttention(4, 1, dropout=0.1),
    "randomised": nn.RReLU(),
    "spectral": nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)),
}


@pytest.mark.parametrize("layer", LAYERS)
def test_compiled_random_layers_are_refused_and_named(layer):
    field = Noisy(p=0.0)
    field.other = LAYERS[layer]
    with pytest.raises(Exception, match=r"field 'Noisy' is called more than once.*layer 'other.*call eval\(\)"):
        compiled(ODETerm(field), torch.randn(3, 4), solver=RK4())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("gradient", [Direct(), Reversible()], ids=repr)
def test_masks_drawn_on_a_cuda_device(gradient):
    field, y0 = Noisy(norm=nn.BatchNorm1d(4)).cuda(), torch.randn(64, 4, device="cuda", requires_grad=True)
    one = solved(ODETerm(field), y0, solver=Leapfrog(), gradient=gradient)
    one.sum().backward()
    assert all(torch.equal(mask, field.masks[0]) for mask in field.masks)
    assert torch.equal(one, solved(ODETerm(field), y0, solver=Leapfrog(), gradient=gradient))
    assert not torch.equal(one, solve(ODETerm(field), y0, TIMES, solver=Leapfrog(), gradient=gradient).y1)
    assert int(field.norm.num_batches_tracked) == 3
