"""Classes of denoisers: the null class, how often and for whom training hides a class, and what is refused."""

import pytest
import torch

from deqlight.brownian import Key, keyed
from deqlight.errors import InputError, ShapeError
from deqlight.fields import DenoisingMLP, UNet
from deqlight.fields.hidden import hidden

CLASSES = 5
KINDS = {
    "UNet": (lambda **options: UNet(1, 8, (1, 2), 1, (2,), groups=4, heads=2, **options), (1, 4, 4)),
    "DenoisingMLP": (lambda **options: DenoisingMLP(2, 16, 2, **options), (2,)),
}


@torch.no_grad()
def stirred(net):
    for p in net.parameters():
        p.add_(0.3 * torch.randn_like(p))
    return net


@pytest.fixture(params=list(KINDS))
def kind(request, double):
    return KINDS[request.param]


def noisy(shape, n):
    return torch.rand(n), torch.randn(n, *shape)


def test_the_class_changes_the_result(kind):
    make, shape = kind
    net, (t, y) = stirred(make(classes=CLASSES)), noisy(shape, 1)
    results = [net(t, y, torch.tensor([label])) for label in range(-1, CLASSES)]
    for i, one in enumerate(results):
        for other in results[:i]:
            assert (one - other).abs().max() > 1e-3


def test_a_class_moves_its_sample_alone(kind):
    make, shape = kind
    net, (t, y) = stirred(make(classes=CLASSES)), noisy(shape, 3)
    one, other = net(t, y, torch.tensor([0, 1, 2])), net(t, y, torch.tensor([0, 4, 2]))
    assert torch.allclose(one[::2], other[::2], rtol=1e-12) and not torch.allclose(one[1], other[1], rtol=1e-3)


def test_the_null_class_is_the_unconditional_network(kind):
    """By construction: it adds nothing, so a network without classes and with the same other weights is the same."""
    make, shape = kind
    told, (t, y) = stirred(make(classes=CLASSES)), noisy(shape, 4)
    bare = make()
    missing = bare.load_state_dict(told.state_dict(), strict=False)
    assert missing.unexpected_keys == ["condition.table.weight"] and not missing.missing_keys
    wanted = bare(t, y)
    for labels in (None, torch.full((4,), -1), torch.tensor([-1, -1, -7, -1], dtype=torch.int32)):
        assert torch.equal(told(t, y, labels), wanted)
    assert torch.allclose(told(t, y, torch.tensor([-1, 2, -1, 0]))[::2], wanted[::2], rtol=1e-12)


def test_one_label_of_noise_and_many_of_classes(kind):
    make, shape = kind
    net, (_, y), labels = stirred(make(classes=CLASSES)), noisy(shape, 3), torch.tensor([0, -1, 2])
    assert torch.allclose(net(0.3, y, labels), net(torch.full((3,), 0.3), y, labels), rtol=1e-12)


SHARE, MANY = 0.2, 20_000


def test_classes_are_hidden_as_often_as_told():
    """Within five standard deviations, for all samples and for those of each class."""
    labels = torch.arange(MANY) % CLASSES
    with keyed(Key(seed=3)):
        out = hidden(labels, SHARE) == -1
    for some in (slice(None), *(labels == c for c in range(CLASSES))):
        n = len(out[some])
        assert abs(float(out[some].double().mean()) - SHARE) < 5 * (SHARE * (1 - SHARE) / n) ** 0.5
    with keyed(Key(seed=3)):
        assert torch.equal(hidden(labels, SHARE), torch.where(out, -1, labels))


def told_of(net, t, y, labels):
    """For each sample, whether the result is that of its class, or that of no class."""
    net.eval()
    own, none = net(t, y, labels), net(t, y)
    net.train()

    def seen(result):
        near = [(result - wanted).abs().flatten(1).amax(1) < 1e-9 for wanted in (own, none)]
        assert bool((near[0] ^ near[1]).all())
        return near[0]

    return seen


def test_training_hides_by_seed_step_and_sample_whatever_the_batch(kind):
    make, shape = kind
    n = 200
    net, (t, y), ids = (
        stirred(make(classes=CLASSES, label_drop=0.5)).train(),
        noisy(shape, n),
        torch.randperm(10 * n)[:n],
    )
    labels = torch.arange(n) % CLASSES
    seen = told_of(net, t, y, labels)
    found = {}
    for seed, step in ((0, 0), (0, 1), (1, 0)):
        with keyed(Key(seed, step, ids)):
            found[seed, step] = seen(net(t, y, labels))
        assert abs(int(found[seed, step].sum()) - n / 2) < 5 * (n / 4) ** 0.5
    assert not torch.equal(found[0, 0], found[0, 1]) and not torch.equal(found[0, 0], found[1, 0])
    part = torch.randperm(n)[:7]
    with keyed(Key(0, 1, ids[part])):
        few = net(t[part], y[part], labels[part])
    assert torch.equal(told_of(net, t[part], y[part], labels[part])(few), found[0, 1][part])


def test_evaluation_hides_nothing_and_neither_does_a_share_of_zero(kind):
    make, shape = kind
    net, (t, y), labels = stirred(make(classes=CLASSES, label_drop=0.9)), noisy(shape, 20), torch.arange(20) % CLASSES
    seen = told_of(net, t, y, labels)
    assert seen(net.eval()(t, y, labels)).all()
    net.condition.label_drop = 0.0
    assert seen(net.train()(t, y, labels)).all()


def test_what_is_hidden_teaches_the_class_nothing(kind):
    make, shape = kind
    net, (t, y), labels = (
        stirred(make(classes=CLASSES, label_drop=0.5)).train(),
        noisy(shape, 40),
        torch.arange(40) % CLASSES,
    )
    with keyed(Key(0)):
        out = hidden(labels, 0.5) < 0
    with keyed(Key(0)):
        result = net(t, y, labels)
    result[out].square().sum().backward()
    assert torch.equal(net.condition.table.weight.grad, torch.zeros(CLASSES, net.condition.table.embedding_dim))


def test_labels_that_cannot_be_are_refused(kind):
    make, shape = kind
    net, (t, y) = make(classes=CLASSES), noisy(shape, 2)
    for labels in (torch.tensor([1]), torch.tensor([[0], [1]]), torch.rand(2), torch.tensor([True, False])):
        with pytest.raises(ShapeError, match=r"whole numbers \(2,\)"):
            net(t, y, labels)
    with pytest.raises(InputError, match="5 classes got the label 5; -1 is for no class"):
        net(t, y, torch.tensor([0, 5]))
    with pytest.raises(InputError, match=r"without classes got labels; make it with classes=…"):
        make()(t, y, torch.tensor([0, 1]))
