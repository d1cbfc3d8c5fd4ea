"""DepthNet: stem, stages, head; the solver makes the architecture."""

import copy
import pickle

import pytest
import torch
from torch import nn

from deqlight import record
from deqlight.controllers import PID, Constant
from deqlight.errors import InputError, ShapeError, StatisticsWarning
from deqlight.fields import Antisymmetric, ConcatConv, GroupNorm2d, PreActivation
from deqlight.gradients import Direct, Reversible
from deqlight.nets import (
    ContinuousStage,
    ConvStem,
    DepthNet,
    LayeredStage,
    PartitionedStage,
    PoolHead,
    Split,
    Transition,
)
from deqlight.solvers import (
    AB2,
    ABM4,
    RK4,
    RKC,
    Dopri5,
    Dopri8,
    Euler,
    Heun,
    Leapfrog,
    LinearTwoStep,
    Midpoint,
    ReversiblePair,
    StepDoubling,
    Stormer,
    SymplecticEuler,
    Verlet,
)


def quiet(channels):
    return PreActivation(channels, GroupNorm2d)


def layered(solver, **options):
    stages = [LayeredStage(quiet, 8, 3), LayeredStage(quiet, 16, 2, Transition(8, 16, GroupNorm2d))]
    return DepthNet(ConvStem(1, 8), stages, PoolHead(16, 10, GroupNorm2d), solver=solver, **options)


def partitioned(solver, **options):
    stages = [PartitionedStage(quiet, quiet, 8, 3), PartitionedStage(quiet, quiet, 16, 2, Transition(8, 16))]
    return DepthNet(ConvStem(1, 8), stages, PoolHead(16, 10), solver=solver, **options)


@pytest.fixture
def images():
    return torch.rand(4, 1, 8, 8)


SOLVERS = [Euler(), Midpoint(), Heun(), RK4(), Dopri5(), AB2(), LinearTwoStep(-0.05, learn=True), Leapfrog(), Stormer()]


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
def test_every_integrator_is_an_architecture(solver, images):
    net = layered(solver)
    scores = net(images)
    assert scores.shape == (4, 10)
    scores.square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in net.parameters())


@pytest.mark.parametrize("gradient", [Direct(), Reversible()], ids=repr)
@pytest.mark.parametrize("solver", [SymplecticEuler(), Verlet()], ids=repr)
def test_partitioned_stages(solver, gradient, images):
    net = partitioned(solver, gradient=gradient)
    net(images).sum().backward()
    assert all(p.grad is not None for p in net.parameters())


@pytest.mark.parametrize("controller", [Constant(steps=3), PID(1e-2, 1e-2), PID(1e-2, 1e-2, norm="joint")], ids=repr)
def test_continuous_stages(controller, images):
    stages = [ContinuousStage(ConcatConv, 8), ContinuousStage(ConcatConv, 16, 2.0, Transition(8, 16))]
    net = DepthNet(ConvStem(1, 8), stages, PoolHead(16, 10), solver=Dopri5(), controller=controller)
    net(images).sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_evaluations_are_those_of_the_layers(images):
    with record() as solves:
        layered(Heun())(images)
    assert [int(s.nfe[0]) for s in solves] == [6, 4]


def test_constant_steps_deepen_the_network(images):
    with record() as solves:
        layered(Heun(), controller=Constant(steps=4))(images)
    assert [int(s.accepted[0]) for s in solves] == [12, 8]


COMPILED = [
    (Heun(), [6, 4]),
    (Dopri8(), [39, 26]),
    (ABM4(), [12, 8]),
    (LinearTwoStep(-0.05, learn=True), [3, 2]),
    (RKC(4), [15, 10]),
    (ReversiblePair(RK4()), [24, 16]),
    (StepDoubling(Heun()), [18, 12]),
]


@pytest.mark.parametrize(("solver", "cost"), COMPILED, ids=repr)
def test_a_depth_grid_compiles_to_one_graph(images, solver, cost):
    net = layered(solver)
    torch.compiler.reset()
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    with record() as solves:
        scores = compiled(images)
    assert torch.equal(scores, net(images))
    assert [int(s.nfe[0]) for s in solves] == cost


def test_each_stage_has_coefficients_of_its_own():
    net = layered(LinearTwoStep(-0.05, learn=True))
    names = {name: tuple(p.shape) for name, p in net.named_parameters() if "coefficients" in name}
    assert names == {"coefficients.0.k": (2,), "coefficients.1.k": (1,)}
    deeper = layered(LinearTwoStep(-0.05, learn=True), controller=Constant(steps=2))
    assert [len(solver.k) for solver in deeper.solvers] == [5, 3]


def test_a_copy_learns_its_own_coefficients(images):
    net = layered(LinearTwoStep(0.1, learn=True))
    twin = copy.deepcopy(net)
    with torch.no_grad():
        twin.coefficients[0].k.fill_(0.5)
    assert not torch.equal(net(images), twin(images))
    assert torch.equal(pickle.loads(pickle.dumps(net))(images), net(images))


def test_reversible_needs_a_solver_that_can_be_undone():
    with pytest.raises(InputError, match="Euler, which has no unstep"):
        layered(Euler(), gradient=Reversible())


def test_a_pair_solver_needs_partitioned_stages():
    with pytest.raises(InputError, match="SymplecticEuler got the term Layered; it integrates Partitioned"):
        layered(SymplecticEuler())


def test_wrong_channels_of_the_data():
    with pytest.raises(ShapeError, match=r"\(2, 3, 8, 8\); it needs \(batch, 1, height, width\): set in_channels"):
        layered(Euler())(torch.rand(2, 3, 8, 8))


def test_wrong_channels_between_stages():
    net = DepthNet(ConvStem(1, 8), [LayeredStage(quiet, 16, 1)], PoolHead(16, 10), solver=Euler())
    with pytest.raises(ShapeError, match=r"a stage of 16 channels got features of shape \(2, 8, 8, 8\)"):
        net(torch.rand(2, 1, 8, 8))


def test_batch_statistics_of_several_evaluations_are_warned_of(recwarn):
    def net(solver, stage, controller=None):
        return DepthNet(ConvStem(1, 8), [stage], PoolHead(8, 10), solver=solver, controller=controller)

    for solver in (Euler(), LinearTwoStep(0.1), Leapfrog()):
        net(solver, LayeredStage(PreActivation, 8, 2))
    net(SymplecticEuler(), PartitionedStage(PreActivation, PreActivation, 8, 2))
    net(Heun(), LayeredStage(quiet, 8, 2))
    assert not recwarn.list
    for solver in (Heun(), Dopri5()):
        with pytest.warns(StatisticsWarning, match="more than once.*those of the first.*use GroupNorm2d"):
            net(solver, LayeredStage(PreActivation, 8, 2))
    with pytest.warns(StatisticsWarning):
        net(Verlet(), PartitionedStage(PreActivation, PreActivation, 8, 2))
    with pytest.warns(StatisticsWarning):
        net(Euler(), ContinuousStage(PreActivation, 8))
    with pytest.warns(StatisticsWarning):
        net(Euler(), LayeredStage(PreActivation, 8, 2), Constant(steps=2))


@pytest.mark.parametrize("gradient", [Direct(), Reversible()], ids=repr)
def test_batch_statistics_count_once_in_a_pass(gradient, images):
    """Those of all layers, forward and backward; a network of several evaluations a layer as any other."""
    solver = Heun() if gradient == Direct() else ReversiblePair(Heun())
    with pytest.warns(StatisticsWarning):
        net = DepthNet(
            ConvStem(1, 8), [LayeredStage(PreActivation, 8, 2)], PoolHead(8, 10), solver=solver, gradient=gradient
        )
    net(images).sum().backward()
    norms = [layer for layer in net.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert len(norms) > 4 and {int(norm.num_batches_tracked) for norm in norms} == {1}


def test_stages_and_layers_are_needed():
    with pytest.raises(InputError, match="at least one"):
        DepthNet(nn.Identity(), [], nn.Identity(), solver=Euler())
    with pytest.raises(InputError, match="at least one layer"):
        LayeredStage(quiet, 8, 0)
    with pytest.raises(InputError, match="an even number"):
        PartitionedStage(quiet, quiet, 7, 2)
    with pytest.raises(ShapeError, match="even number"):
        Split().lift(torch.rand(1, 3, 2, 2))


def test_the_adjoint_of_the_antisymmetric_convolution_is_exact(double):
    field = Antisymmetric(3)
    x, y = torch.randn(1, 3, 7, 7), torch.randn(1, 3, 7, 7)
    kernel = field.weight - field.weight.transpose(0, 1).flip(2, 3)
    forth, back = (torch.conv2d(z, kernel, padding=1) for z in (x, y))
    assert torch.allclose((forth * y).sum(), -(x * back).sum(), rtol=1e-12)
    transposed = torch.conv_transpose2d(y, field.weight, padding=1)
    assert torch.allclose(torch.conv2d(y, field.weight, padding=1) - transposed, back, atol=1e-12)


def test_time_is_a_channel_of_the_continuous_field():
    field, y = ConcatConv(4), torch.rand(3, 4, 5, 5)
    with torch.no_grad():
        early, late = field(0.0, y), field(1.0, y)
        each = field(torch.tensor([0.0, 1.0, 0.0]).reshape(3, 1, 1, 1), y)
    assert not torch.equal(early, late)
    assert torch.allclose(each[1], late[1], atol=1e-6) and torch.allclose(each[0], early[0], atol=1e-6)


def test_a_stem_subtracts_the_means_of_its_images_and_keeps_nothing_of_them_in_a_checkpoint():
    images, mean, std = torch.rand(4, 3, 6, 6), (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    stem, plain = ConvStem(3, 8, mean, std), ConvStem(3, 8)
    plain.load_state_dict(stem.state_dict())
    centred = torch.stack([(images[:, k] - mean[k]) / std[k] for k in range(3)], 1)
    assert torch.allclose(stem(images), plain(centred), atol=1e-6)


@pytest.mark.parametrize(("mean", "std"), [((0.1,), (0.2,)), ((0.1, 0.1, 0.1), ()), ((0, 0, 0), (1, 1, 0))])
def test_a_stem_with_means_of_other_channels_is_refused(mean, std):
    with pytest.raises(InputError, match="each needs 3 numbers"):
        ConvStem(3, 8, mean, std)
