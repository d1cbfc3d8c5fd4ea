"""The scales, on cases whose weight is known."""

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from deqlight import ODETerm, SaveAt, solve
from deqlight.controllers import PID
from deqlight.gradients import Direct, Reversible
from deqlight.solvers import RK4, Dopri5, Leapfrog, ReversiblePair
from deqlight.testing.memory import LiveBytes, Memory, gradients, measured_memory, without_collector

SIZE = 1000
FLOAT = 4  # bytes


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, t, y):
        return torch.tanh(self.linear(y))


def field():
    torch.manual_seed(0)
    return Layer(), torch.randn(32, 8, requires_grad=True)


def test_a_tensor_counts_once_from_its_making_to_the_last_who_holds_it():
    with LiveBytes() as live:
        a = torch.ones(SIZE)
        assert live.now == SIZE * FLOAT
        b, c = a.view(10, -1), a[::2]  # the same memory
        a.add_(1)
        assert live.now == live.peak == SIZE * FLOAT
        del a, b
        assert live.now == SIZE * FLOAT
        del c
        assert live.now == 0
        a, b = torch.ones(SIZE), torch.ones(SIZE)
        a = b = None
    assert (live.now, live.peak, a, b) == (0, 2 * SIZE * FLOAT, None, None)


def test_what_was_there_before_does_not_count():
    weight = torch.ones(SIZE, requires_grad=True)
    with LiveBytes() as live:
        view = weight.view(10, -1)
        detached = weight.detach().mul_(2)
        assert live.now == 0
        made = view * 1
        assert live.now == SIZE * FLOAT
    assert made.shape == view.shape and detached.shape == weight.shape


def test_what_a_graph_saves_is_seen_though_no_variable_holds_it():
    x = torch.ones(SIZE, requires_grad=True)
    with LiveBytes() as live:
        y = x.exp().exp().exp().sum()
        assert live.now == 3 * SIZE * FLOAT + FLOAT  # exp saves its result
        y.backward()
    assert live.now == SIZE * FLOAT + FLOAT  # the gradient, and y


def test_what_a_method_holds_by_itself_is_seen():
    class Hoard(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.hoard = [torch.ones(SIZE) for _ in range(7)]  # behind autograd's back
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            return grad

    x = torch.ones(1, requires_grad=True)
    assert measured_memory(lambda: Hoard.apply(x), [x]).kept == 7 * SIZE * FLOAT + FLOAT


def test_direct_keeps_what_autograd_saves():
    """The scales against autograd's own hooks, tensor by tensor."""
    module, y0 = field()
    inputs = (y0, *module.parameters())

    def forward():
        return solve(
            ODETerm(module), y0, [0.0, 0.5, 1.0], solver=RK4(), gradient=Direct(), saveat=SaveAt(final=True)
        ).y1

    saved = {}

    def pack(tensor):
        saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    given = {tensor.untyped_storage().data_ptr() for tensor in inputs}
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        output = forward()
    weighed = {place: tensor.untyped_storage().nbytes() for place, tensor in saved.items() if place not in given}
    weighed[output.untyped_storage().data_ptr()] = output.untyped_storage().nbytes()
    assert measured_memory(forward, inputs).kept == sum(weighed.values()) > 8 * 32 * 8 * FLOAT


@pytest.mark.parametrize("solver", [Leapfrog(), ReversiblePair(RK4())], ids=repr)
def test_reversible_is_flat_in_the_steps_and_direct_is_not(solver):
    module, y0 = field()

    def weighed(gradient, steps):
        def forward():
            grid = [n / steps for n in range(steps + 1)]
            return solve(ODETerm(module), y0, grid, solver=solver, gradient=gradient, saveat=SaveAt(final=True)).y1

        return measured_memory(forward, (y0, *module.parameters()))

    assert weighed(Reversible(), 4) == weighed(Reversible(), 64)
    short, long = weighed(Direct(), 4), weighed(Direct(), 64)
    assert long.kept > 10 * short.kept and long.peak > 10 * short.peak


def test_a_solve_with_measured_steps_leaves_nothing_behind_and_no_cycles():
    module, y0 = field()
    with without_collector(), LiveBytes() as live:
        solution = solve(ODETerm(module), y0, [0.0, 1.0], solver=Dopri5(), controller=PID(1e-3, 1e-3))
        found = gradients(solution.y1, (y0, *module.parameters()))
        del solution, found
        assert live.now == 0


def test_unused_inputs_and_outputs_that_are_no_numbers():
    x, unused = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
    found = gradients(2 * x, [x, unused])
    assert torch.equal(found[0], torch.full((3,), 2.0)) and found[1] is None
    assert measured_memory(lambda: 2 * x, [x, unused]).kept == 3 * FLOAT


def test_bytes_in_mib():
    assert (Memory(2**20, 2**21).kept_mib, Memory(2**20, 2**21).peak_mib) == (1.0, 2.0)
