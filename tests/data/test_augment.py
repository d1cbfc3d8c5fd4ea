"""Random changes of images: exact, and each a function of (seed, epoch, sample) alone."""

import numpy as np
import pytest
import torch

from deqlight.data import Batch, Cutout, Digits, Flip, Loader, Mixup, Order, Patches, RandomShift, Tensors
from deqlight.errors import InputError

CLASSES = 10
KINDS = [RandomShift(2), Flip(), Cutout(3, (0.25, 0.5))]
MIX = Mixup(0.7, CLASSES)


def data(samples=96):
    images = torch.rand(samples, 2, 6, 7, generator=torch.Generator().manual_seed(1))
    return Tensors(images, torch.arange(samples) * 7 % CLASSES)


def loader(augment=(), mixup=None, *, batch=16, rank=0, world=1, epoch=3, samples=96):
    order = Order(torch.arange(80), batch, shuffle=True, seed=5, rank=rank, world=world)
    order.set_epoch(epoch)
    return Loader(data(samples), order, augment, mixup)


def by_id(*loaders):
    """All that comes, in the order of the samples."""
    batches = [batch for one in loaders for batch in one]
    place = torch.cat([b.ids for b in batches]).argsort()
    return Batch(*(torch.cat(part)[place] for part in zip(*batches, strict=True)))


def test_a_flip_mirrors_the_images_that_were_drawn_and_no_others():
    images, drawn = data(5).inputs, torch.tensor([True, False, True, True, False])
    found = Flip()(images, drawn)
    for image, before, flipped in zip(found, images, drawn, strict=True):
        for x in range(7):
            assert torch.equal(image[:, :, x], before[:, :, 6 - x if flipped else x])


def test_half_of_the_images_are_mirrored():
    drawn = Flip().draw(np.random.default_rng(0), 10_000)
    assert drawn.dtype == torch.bool and abs(drawn.float().mean() - 0.5) < 0.025  # five standard deviations


@pytest.mark.parametrize("pixels", [1, 2, 4])
def test_a_shift_is_a_crop_of_the_padded_image(pixels):
    images, shift = data(20).inputs, RandomShift(pixels)
    offsets = shift.draw(np.random.default_rng(0), 20)
    assert set(offsets.flatten().tolist()) == set(range(2 * pixels + 1))
    for image, before, (down, right) in zip(shift(images, offsets), images, offsets.tolist(), strict=True):
        padded = torch.zeros(2, 6 + 2 * pixels, 7 + 2 * pixels)
        padded[:, pixels:-pixels, pixels:-pixels] = before
        assert torch.equal(image, padded[:, down : down + 6, right : right + 7])


@pytest.mark.parametrize("length", [1, 2, 3, 4, 20])
def test_a_cutout_blanks_a_square_around_a_pixel_and_may_hang_over(length):
    images, cutout = data(60).inputs, Cutout(length, (0.25, 0.5))
    centres = cutout.draw(np.random.default_rng(0), 60)
    for image, before, centre in zip(cutout(images, centres), images, centres.tolist(), strict=True):
        expected = before.clone()
        y, x = int(centre[0] * 6), int(centre[1] * 7)
        for row in range(6):
            for column in range(7):
                if (
                    -(length // 2) <= row - y < length - length // 2
                    and -(length // 2) <= column - x < length - length // 2
                ):
                    expected[:, row, column] = torch.tensor([0.25, 0.5])
        assert torch.equal(image, expected)


def test_every_pixel_may_be_the_centre_of_a_cutout():
    found = Cutout(1, (2.0, 2.0))(
        torch.zeros(3000, 2, 6, 7), Cutout(1, (2.0, 2.0)).draw(np.random.default_rng(0), 3000)
    )
    hits = (found[:, 0] == 2).sum(0)
    assert hits.sum() == 3000 and hits.min() > 30  # 71 each, give or take 8


@pytest.mark.parametrize("mixup", [None, MIX])
@pytest.mark.parametrize("augment", [KINDS, KINDS[:1], []])
def test_neither_batches_nor_processes_matter(augment, mixup):
    alone = by_id(loader(augment, mixup))
    two = by_id(*(loader(augment, mixup, batch=8, rank=rank, world=2) for rank in range(2)))
    three = by_id(*(loader(augment, mixup, batch=5, rank=rank, world=3) for rank in range(3)))
    for other in (two, three):
        assert all(torch.equal(a, b) for a, b in zip(alone, other, strict=True))
    assert alone.ids.tolist() == list(range(80))
    if augment or mixup:
        assert not torch.equal(alone.inputs, by_id(loader(augment, mixup, epoch=4)).inputs)


def test_one_kind_changes_no_draw_of_another_nor_the_order():
    seen = []

    class Watched(Flip):
        def __call__(self, images, draws):
            seen.append(draws.clone())
            return super().__call__(images, draws)

    first, ids = [], []
    for kinds in ([], KINDS[:1], KINDS[::2]):
        for mix in (None, MIX):
            seen.clear()
            ids.append(next(iter(loader([*kinds, Watched()], mix))).ids)
            first.append(seen[0])  # of the batch; with mixup that of its partners follows
    assert all(torch.equal(first[0], other) for other in first)
    assert all(torch.equal(ids[0], other) for other in ids)


def test_a_mirror_image_of_a_shifted_one_is_all_that_both_together_make():
    one, both = by_id(loader(KINDS[:1])), by_id(loader([KINDS[0], Flip()]))
    same = (both.inputs == one.inputs).flatten(1).all(1)
    mirrored = (both.inputs == one.inputs.flip(3)).flatten(1).all(1)
    assert (same | mirrored).all() and same.any() and mirrored.any()


def test_the_shift_of_digits_draws_what_it_always_drew():
    """The offsets of a run's first epoch, as they were before there were other augmentations."""
    torch.manual_seed(11)
    digits = Digits(batch_size=32, shift=1)
    digits.setup("fit")
    batch = next(iter(digits.train_dataloader()))
    offsets = np.random.default_rng([11, 0, 1]).integers(0, 3, (1797, 2))[batch.ids]
    images = torch.nn.functional.pad(digits._dataset.inputs[batch.ids], [1] * 4)
    for image, padded, (down, right) in zip(batch.inputs, images, offsets, strict=True):
        assert torch.equal(image, padded[:, down : down + 8, right : right + 8])


def test_two_of_a_kind_would_be_one_and_are_refused():
    with pytest.raises(InputError, match="same random numbers"):
        loader([Flip(), Flip()])


def test_mixup_is_the_mixture_of_augmented_images_and_of_their_classes():
    plain, mixed = by_id(loader(KINDS)), by_id(loader(KINDS, MIX))
    rng = np.random.default_rng([5, 3, 1, 3])
    partners = rng.integers(0, 80, 96)[:80]
    shares = torch.from_numpy(rng.beta(0.7, 0.7, 96)).float()[:80]
    for k, (partner, share) in enumerate(zip(partners, shares, strict=True)):
        image = share * plain.inputs[k] + (1 - share) * plain.inputs[partner]
        assert torch.allclose(mixed.inputs[k], image, atol=1e-6)
        target = torch.zeros(CLASSES)
        target[plain.targets[k]] += share
        target[plain.targets[partner]] += 1 - share
        assert torch.allclose(mixed.targets[k], target, atol=1e-6)
    assert torch.equal(mixed.ids, plain.ids)
    assert mixed.inputs.min() >= 0 and mixed.inputs.max() <= 1
    assert len(set(partners.tolist())) > 40  # from all of the training part


def test_partners_come_from_the_training_part_alone():
    positions = torch.tensor([3, 5, 8])
    partners, shares = MIX.draw(np.random.default_rng(0), positions, 1000)
    assert set(partners.tolist()) == {3, 5, 8}
    assert shares.min() >= 0 and shares.max() <= 1 and abs(shares.mean() - 0.5) < 0.06


def test_an_image_mixed_with_itself_is_itself():
    images, shares = data(20).inputs, torch.rand(20)
    assert torch.equal(MIX.images(images, images, shares), images)
    one = MIX.targets(torch.arange(20) % 10, torch.arange(20) % 10, shares)
    assert torch.equal(one, torch.eye(10).repeat(2, 1))


def test_a_resumed_epoch_goes_on_with_the_same_changes():
    whole = list(loader(KINDS, MIX))
    first = loader(KINDS, MIX)
    stream = iter(first)
    next(stream), next(stream)
    second = loader(KINDS, MIX)
    second.load_state_dict(first.state_dict())
    for a, b in zip(second, whole[2:], strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_nothing_is_drawn_from_global_generators():
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    list(loader(KINDS, MIX))
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Cutout(0, (0.0,)), "a square of 0 pixels"),
        (lambda: Mixup(0.0, 10), "must be above 0"),
        (lambda: Mixup(float("inf"), 10), "finite"),
        (lambda: Patches(train=0), "train is 0"),
    ],
)
def test_what_cannot_be(make, told):
    with pytest.raises(InputError, match=told):
        make()
