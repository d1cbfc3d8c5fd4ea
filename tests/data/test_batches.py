import pytest
import torch

from deqlight.data import Batch, Loader, Order, RandomShift, Tensors
from deqlight.errors import InputError


def order(samples=103, batch_size=8, **kwargs):
    return Order(torch.arange(samples) * 2, batch_size, **{"shuffle": True, "seed": 3, **kwargs})


def data(samples=206):
    images = torch.arange(samples * 9.0).reshape(samples, 1, 3, 3)
    return Tensors(images, torch.arange(samples) % 10)


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("samples", [7, 32, 33, 64, 65, 103])
def test_every_sample_comes_once_and_every_rank_gets_as_many_batches(world, samples):
    ranks = [order(samples, rank=rank, world=world).batches() for rank in range(world)]
    assert sorted(torch.cat([torch.cat(batches) for batches in ranks]).tolist()) == [2 * n for n in range(samples)]
    assert {len(batches) for batches in ranks} == {len(order(samples, world=world))}
    assert all(len(batch) for batches in ranks for batch in batches)


def test_an_order_is_a_function_of_seed_and_epoch():
    def epoch(number, seed=3):
        one = order(seed=seed)
        one.set_epoch(number)
        return torch.cat(one.batches()).tolist()

    assert epoch(1) == epoch(1)
    assert len({tuple(epoch(n, s)) for n in (0, 1, 2) for s in (3, 4)}) == 6


def test_the_global_batch_does_not_depend_on_the_number_of_ranks():
    alone = order(96, batch_size=8).batches()
    two = [order(96, batch_size=4, rank=rank, world=2).batches() for rank in range(2)]
    for whole, *parts in zip(alone, *two, strict=True):
        assert sorted(whole.tolist()) == sorted(torch.cat(parts).tolist())


def test_a_loader_goes_on_behind_the_batches_taken():
    whole = [batch.ids.tolist() for batch in Loader(data(), order())]
    first = Loader(data(), order())
    stream = iter(first)
    taken = [next(stream).ids.tolist() for _ in range(5)]
    second = Loader(data(), order())
    second.load_state_dict(first.state_dict())
    assert taken + [batch.ids.tolist() for batch in second] == whole
    assert len(second) == len(whole)  # the trainer counts whole epochs
    assert [batch.ids.tolist() for batch in second] == whole  # and only that epoch was shortened


def test_a_place_in_another_epoch_shortens_nothing():
    loader = Loader(data(), order())
    loader.load_state_dict({"epoch": 4, "batches": 5})
    assert sum(1 for _ in loader) == len(loader)


def test_a_finished_epoch_has_no_place():
    loader = Loader(data(), order())
    list(loader)
    assert loader.state_dict() == {"epoch": 0, "batches": 0}


def test_loading_draws_nothing_from_the_global_generator():
    before = torch.get_rng_state()
    list(Loader(data(), order(), [RandomShift(1)]))
    assert torch.equal(before, torch.get_rng_state())


def test_a_batch_holds_what_its_ids_say():
    dataset = data()
    for batch in Loader(dataset, order()):
        assert isinstance(batch, Batch)
        assert torch.equal(batch.inputs, dataset.inputs[batch.ids])
        assert torch.equal(batch.targets, dataset.targets[batch.ids])


def test_a_shift_moves_and_fills_with_zeros():
    image = torch.arange(1.0, 10.0).reshape(1, 1, 3, 3)
    assert torch.equal(RandomShift(1)(image, torch.tensor([[1, 1]])), image)
    down = RandomShift(1)(image, torch.tensor([[0, 1]]))
    assert down[0, 0].tolist() == [[0, 0, 0], [1, 2, 3], [4, 5, 6]]


def test_a_shift_belongs_to_the_sample_not_to_the_batch():
    shifts = RandomShift(1)

    def images(world):
        parts = [Loader(data(), order(96, 16 // world, rank=r, world=world), [shifts]) for r in range(world)]
        batches = [batch for part in parts for batch in part]
        ids = torch.cat([batch.ids for batch in batches])
        return torch.cat([batch.inputs for batch in batches])[ids.argsort()]

    assert torch.equal(images(1), images(2))
    assert not torch.equal(images(1), data().inputs[::2][:96])


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: order(batch_size=0), "batch_size is 0"),
        (lambda: order(1, world=2), "1 samples cannot be shared by 2 processes"),
        (lambda: RandomShift(0), "a shift by 0 pixels"),
    ],
)
def test_what_cannot_be(make, told):
    with pytest.raises(InputError, match=told):
        make()
