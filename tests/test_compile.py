"""Compiled solves are the eager ones, are one graph, and are never an eager run by another name."""

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from deqlight import Compile, Layered, ODETerm, Partitioned, SaveAt, solve
from deqlight.brownian import Key, keyed
from deqlight.controllers import PID, Constant
from deqlight.errors import CompileFailure, InputError, MaxSteps, NonFinite
from deqlight.fields import MLP
from deqlight.gradients import Checkpoint
from deqlight.plugin.manager import host
from deqlight.policies import Freeze
from deqlight.regularizers import Dropout, StochasticDepth
from deqlight.solvers import RK4, Dopri5, Euler, Heun, Kvaerno3

SAME = 1e-12  # relative: graphs sum in another order


class Tanh(nn.Module):
    def __init__(self, width=3):
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, t, y):
        return torch.tanh(self.linear(y)) * (1 + 0.1 * t) - y


class Normed(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, t, y):
        return self.layer(y)


@pytest.fixture
def graphs(double):
    torch.compiler.reset()
    counters.clear()
    return lambda: counters["stats"]["unique_graphs"]


def explicit():
    for name, cls in sorted(host().classes("deqlight_solvers").items()):
        examples = [s for s in cls.examples() if s.info.nfe_step is not None and s.info.stability != float("inf")]
        if examples:
            yield pytest.param(examples[0], id=name)


def network(solver):
    """A term, a state and a grid that suit the solver."""
    if issubclass(Partitioned, solver.info.terms) and not issubclass(ODETerm, solver.info.terms):
        return Partitioned(Tanh(), Tanh()), (torch.randn(4, 3), torch.randn(4, 3))
    if issubclass(ODETerm, solver.info.terms):
        return ODETerm(Tanh()), torch.randn(4, 3)
    return None, None


def in_one_graph(solver, backend):
    term, y0 = network(solver)
    if term is None:
        pytest.skip("its terms are tested with the networks made of them")
    inputs = [*(y0 if isinstance(y0, tuple) else (y0,))]

    def last(*parts):
        y1 = solve(
            term, parts if len(parts) > 1 else parts[0], [0.0, 1.0], solver=solver, controller=Constant(steps=4)
        ).y1
        return sum(leaf.square().sum() for leaf in (y1 if isinstance(y1, tuple) else (y1,)))

    def gradients(function):
        fresh = [leaf.clone().requires_grad_() for leaf in inputs]
        return torch.autograd.grad(function(*fresh), [*fresh, *term.parameters()])

    eager, graph = gradients(last), gradients(torch.compile(last, fullgraph=True, backend=backend))
    for a, b in zip(eager, graph, strict=True):
        torch.testing.assert_close(a, b, rtol=SAME, atol=SAME)


@pytest.mark.slow
@pytest.mark.parametrize("solver", explicit())
def test_fixed_grids_are_one_graph_forth_and_back(solver, graphs):
    in_one_graph(solver, "aot_eager")
    assert graphs() == 1


@pytest.mark.parametrize("solver", [RK4(), Heun()], ids=repr)
def test_some_fixed_grids_are_one_graph_forth_and_back(solver, graphs):
    in_one_graph(solver, "aot_eager")
    assert graphs() == 1


CLOCKS = {"joint": PID(1e-5, 1e-7, norm="joint"), "own": PID(1e-5, 1e-7), "fixed": Constant(steps=5)}


@pytest.mark.parametrize("clock", CLOCKS)
def test_a_compiled_solve_is_the_eager_one(clock, graphs):
    """With gradients, whatever the times: one graph of a step, whose backward is one as well."""
    term, y0, found = ODETerm(Tanh()), torch.randn(4, 3), []
    for how in (None, Compile()):
        y = y0.clone().requires_grad_()
        solution = solve(term, y, [0.0, 0.3, 2.0], solver=Dopri5(), controller=CLOCKS[clock], compile=how)
        grads = torch.autograd.grad(solution.ys.square().sum(), [y, *term.parameters()])
        found.append((solution.ys, *grads, solution.stats.nfe, solution.stats.accepted))
    for eager, graph in zip(*found, strict=True):
        torch.testing.assert_close(eager, graph, rtol=SAME, atol=SAME)
    before = graphs()
    assert before <= (3 if clock == "own" else 1)  # samples that are done leave: this batch size, any, and one
    for end in (1.0, 5.0):
        solve(term, y0.requires_grad_(), [0.0, end], solver=Dopri5(), controller=CLOCKS[clock], compile=Compile())
    assert graphs() <= max(before, 3 if clock == "own" else 1)


@pytest.mark.parametrize("norm", ["joint", "sample"])
def test_without_gradients_the_loop_is_compiled(norm, graphs):
    term, y0 = ODETerm(Tanh()).requires_grad_(False), 2 * torch.randn(5, 3)
    options = {"solver": Dopri5(), "controller": PID(1e-7, 1e-9, norm=norm)}
    for ts in ([0.0, 0.5, 4.0], [4.0, 0.0]):  # forth and back
        eager = solve(term, y0, ts, **options)
        graph = solve(term, y0, ts, compile=Compile(chunk=7), **options)
        torch.testing.assert_close(eager.ys, graph.ys, rtol=SAME, atol=SAME)
        assert torch.equal(eager.stats.nfe, graph.stats.nfe)
        assert torch.equal(eager.stats.accepted, graph.stats.accepted)
        assert torch.equal(eager.stats.rejected, graph.stats.rejected)
    assert graphs() == 1


@pytest.mark.parametrize("norm", ["joint", "sample"])
def test_other_sizes_are_compiled_once_more(norm, graphs):
    term, options = (
        ODETerm(lambda t, y: torch.sin(y) * (1 + t)),
        {"solver": Dopri5(), "controller": PID(1e-6, 1e-6, norm=norm)},
    )
    for shape in ((3, 2), (5, 2), (7, 2), (7, 5)):
        y0 = torch.randn(shape)
        eager, graph = (solve(term, y0, [0.0, 1.0], compile=how, **options).ys for how in (None, Compile()))
        torch.testing.assert_close(eager, graph, rtol=SAME, atol=SAME)
    assert graphs() <= 3  # the first size, any batch, any size


def test_a_tensor_that_the_field_closes_over_gets_its_gradient(graphs):
    rate, found = torch.tensor(0.5, requires_grad=True), []
    for how in (None, Compile()):
        options = {"solver": Dopri5(), "controller": PID(1e-6, 1e-8, norm="joint"), "compile": how}
        y1 = solve(ODETerm(lambda t, y: -rate * y), torch.ones(2, 1), [0.0, 1.0], **options).y1
        found.append(torch.autograd.grad(y1.sum(), rate)[0])
    torch.testing.assert_close(*found, rtol=SAME, atol=SAME)


def test_what_fails_in_a_compiled_loop_fails_as_it_does_eagerly(graphs):
    def breaking(t, y):
        return torch.where((y > 2).any(-1, keepdim=True), torch.nan, y)

    y0 = torch.tensor([[0.1, 0.1], [1.0, 1.0], [0.2, 0.2]])
    options = {"solver": Dopri5(), "controller": PID(1e-4, 1e-6), "compile": Compile()}
    with pytest.raises(NonFinite) as failure:
        solve(ODETerm(breaking), y0, [0.0, 1.0], **options)
    assert failure.value.samples == (1,)
    solution = solve(ODETerm(breaking), y0, [0.0, 1.0], on_failure=Freeze(), **options)
    assert solution.y1.isnan().all(-1).tolist() == [False, True, False]
    with pytest.raises(MaxSteps):
        solve(ODETerm(breaking), y0[::2], [0.0, 1.0], max_steps=2, **options)


def test_checkpoints_of_compiled_steps(graphs):
    term, y0, found = ODETerm(Tanh()), torch.randn(4, 3), []
    for how in (None, Compile()):
        options = {"solver": RK4(), "controller": Constant(steps=6), "gradient": Checkpoint(3), "compile": how}
        y1 = solve(term, y0, [0.0, 1.0], saveat=SaveAt(final=True), **options).y1
        found.append(torch.autograd.grad(y1.square().sum(), list(term.parameters())))
    for eager, graph in zip(*found, strict=True):
        torch.testing.assert_close(eager, graph, rtol=SAME, atol=SAME)


def test_layers_of_one_kind_share_a_graph(graphs):
    term, y0 = Layered([Tanh() for _ in range(5)]), torch.randn(4, 3)
    eager, graph = (solve(term, y0, range(6), solver=Euler(), compile=how).ys for how in (None, Compile()))
    torch.testing.assert_close(eager, graph, rtol=SAME, atol=SAME)
    assert graphs() == 2  # the first layer's input needs no gradient


NOISES = [Dropout(p=0.3), StochasticDepth(survival=0.5), StochasticDepth(survival=0.5, per="batch")]


@pytest.mark.parametrize("noise", NOISES, ids=["Dropout", "StochasticDepth", "StochasticDepth of the batch"])
def test_a_compiled_step_has_the_noise_of_its_step(noise, graphs):
    """As published, drawn for each step: one graph for all of them, one more for those that leave the branch out."""
    term, y0 = noise.wrap(ODETerm(MLP(3, hidden=8))), torch.randn(16, 3)
    found = []
    for compiled in (None, Compile()):
        with keyed(Key(seed=1)):
            y1 = solve(term, y0, range(13), solver=Heun(), compile=compiled).y1
        found.append((y1, *torch.autograd.grad(y1.sum(), list(term.parameters()))))
    for eager, graph in zip(*found, strict=True):
        torch.testing.assert_close(graph, eager, rtol=1e-4, atol=1e-5)
    whole = isinstance(noise, StochasticDepth) and noise.per == "batch"
    assert graphs() <= 2 * (1 + whole)  # the first step's input needs no gradient


def test_it_is_never_an_eager_run_by_another_name(graphs):
    with torch.compiler.set_stance("force_eager"), pytest.raises(CompileFailure, match="switched off"):
        solve(ODETerm(Tanh()), torch.randn(4, 3), [0.0, 1.0], solver=RK4(), compile=Compile())


def test_a_field_that_cannot_be_traced_says_so(graphs):
    def untraceable(t, y):
        return y if y.sum() > 0 else -y

    with pytest.raises(CompileFailure, match=r"could not be compiled: .*leave out compile="):
        solve(ODETerm(untraceable), torch.randn(4, 3), [0.0, 1.0], solver=RK4(), compile=Compile())


def test_what_no_graph_of_a_step_can_do_is_refused(double):
    random, counting = (ODETerm(Normed(layer)) for layer in (nn.Dropout(), nn.BatchNorm1d(3)))
    cases = [(ODETerm(Tanh()), Kvaerno3(), "iterates"), (random, RK4(), "Dropout"), (counting, RK4(), "BatchNorm1d")]
    for term, solver, said in cases:
        with pytest.raises(InputError, match=said):
            solve(term, torch.randn(4, 3), [0.0, 1.0], solver=solver, controller=CLOCKS["fixed"], compile=Compile())
    with pytest.raises(InputError, match="chunk=0"):
        Compile(chunk=0)
