"""U-Nets: sizes, parts held against slow references, what they are before training, and what they know of places."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from deqlight.errors import InputError, ShapeError
from deqlight.fields import FourierFeatures, UNet
from deqlight.fields.attention import SelfAttention
from deqlight.fields.unet_parts import Residual

ROUNDING = 1e-10  # of float64, through some twenty layers


def small(channels=2, **options):
    """Three levels, attention in two of them, groups of several channels."""
    known = {"width": 8, "multipliers": (1, 2, 2), "blocks": 1, "attention_at": (2, 4), "groups": 4, "heads": 2}
    return UNet(channels, **{**known, **options})


@torch.no_grad()
def stirred(net):
    """With weights as training might leave them: no layer gives zero, no norm keeps its weights of one."""
    for p in net.parameters():
        p.copy_(torch.randn_like(p) / p[0].numel() ** 0.5 if p.dim() > 1 else p + 0.3 * torch.randn_like(p))
    return net


@pytest.mark.parametrize("size", [(8, 8), (16, 16), (32, 32), (64, 64), (8, 20), (28, 12), (4, 4)])
def test_the_result_is_shaped_as_the_images(size):
    net, y = stirred(small()), torch.randn(2, 2, *size)
    for t in (0.3, torch.tensor(0.3), torch.rand(2), torch.rand(2, 1, 1, 1)):
        assert net(t, y).shape == y.shape


def test_before_training_the_result_is_zero():
    net, y = small(classes=3, features=FourierFeatures), torch.randn(2, 2, 8, 8)
    assert torch.equal(net(0.3, y, torch.tensor([0, 2])), torch.zeros_like(y))
    assert net.entry(y).abs().max() > 0.1  # it is the last layer that gives nothing, not all of them


def test_before_training_blocks_are_what_they_pass():
    x, condition = torch.randn(2, 8, 6, 6), torch.randn(2, 5)
    assert torch.equal(Residual(8, 8, 5, 4, 0.0)(x, condition), x)
    assert torch.equal(SelfAttention(8, 2, 4)(x), x)


def test_a_block_is_its_formula(double):
    """Norms in groups, scale and shift behind the second, and the shortcut, written out."""
    block, x, condition = stirred(Residual(6, 8, 5, 2, 0.0)), torch.randn(3, 6, 5, 5), torch.randn(3, 5)

    def norm(layer, y, groups):
        parts = y.reshape(len(y), groups, -1)
        parts = (parts - parts.mean(2, keepdim=True)) / (parts.var(2, keepdim=True, unbiased=False) + layer.eps).sqrt()
        return parts.reshape(y.shape) * layer.weight[:, None, None] + layer.bias[:, None, None]

    def silu(y):
        return y * torch.sigmoid(y)

    told = condition @ block.modulation.weight.T + block.modulation.bias
    scale, shift = told[:, :8, None, None], told[:, 8:, None, None]
    inner = nn.functional.conv2d(silu(norm(block.norm1, x, 2)), block.conv1.weight, block.conv1.bias, padding=1)
    inner = silu(norm(block.norm2, inner, 2) * (1 + scale) + shift)
    inner = nn.functional.conv2d(inner, block.conv2.weight, block.conv2.bias, padding=1)
    shortcut = torch.einsum("oi,bihw->bohw", block.shortcut.weight[..., 0, 0], x) + block.shortcut.bias[:, None, None]
    assert torch.allclose(block(x, condition), shortcut + inner, atol=ROUNDING)


def test_attention_is_a_mean_of_all_pixels(double):
    """By loops over samples, heads and pixels."""
    layer, x = stirred(SelfAttention(6, 3, 2)), torch.randn(2, 6, 3, 2)
    pixels = layer.norm(x).permute(0, 2, 3, 1).reshape(2, 6, 6)
    found = torch.empty(2, 6, 6)
    for sample in range(2):
        told = pixels[sample] @ layer.project.weight.T + layer.project.bias
        query, key, value = told[:, :6], told[:, 6:12], told[:, 12:]
        for head in range(3):
            own = slice(2 * head, 2 * head + 2)
            for pixel in range(6):
                weights = torch.exp(torch.stack([query[pixel, own] @ k for k in key[:, own]]) / 2**0.5)
                found[sample, pixel, own] = (weights / weights.sum()) @ value[:, own]
    wanted = (found @ layer.out.weight.T + layer.out.bias).reshape(2, 3, 2, 6).permute(0, 3, 1, 2)
    assert torch.allclose(layer(x), x + wanted, atol=ROUNDING)


def test_plain_attention_has_second_derivatives(double):
    layer, x = stirred(SelfAttention(4, 2, 2)), torch.randn(1, 4, 2, 2, requires_grad=True)
    with sdpa_kernel(SDPBackend.MATH):
        assert torch.autograd.gradgradcheck(layer, (x,))
        assert torch.autograd.gradcheck(layer, (x,), check_forward_ad=True)


def on_a_torus(net):
    """The same network, whose convolutions see the other edge where they saw zeros."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3):
            layer.padding_mode = "circular"
            layer._reversed_padding_repeated_twice = [1, 1, 1, 1]
    return net


def test_images_that_move_on_a_torus_move_the_result(double):
    """By as many pixels as the sides have shrunk, or a multiple of it; else the levels see other pixels."""
    net, y = on_a_torus(stirred(small())).eval(), torch.randn(2, 2, 16, 16)

    def moved(by):
        return (net(0.3, y.roll(by, (2, 3))) - net(0.3, y).roll(by, (2, 3))).abs().max()

    assert moved((4, 8)) < ROUNDING and moved((-4, 0)) < ROUNDING
    assert moved((1, 0)) > 1e-3 and moved((2, 2)) > 1e-3
    flat, one = on_a_torus(stirred(small(multipliers=(1,), attention_at=(1,)))), torch.randn(1, 2, 6, 6)
    assert torch.allclose(flat(0.3, one.roll((1, 2), (2, 3))), flat(0.3, one).roll((1, 2), (2, 3)), atol=ROUNDING)


def test_without_attention_and_levels_what_is_far_is_seen_by_norms_alone(double):
    """With norms that do nothing, a pixel reaches as far as the 3×3 convolutions: one, two a block, and one."""
    net = stirred(UNet(1, 4, (1,), 1, (), groups=1))
    for path in [path for path, layer in net.named_modules() if isinstance(layer, nn.GroupNorm)]:
        net.set_submodule(path, nn.Identity())
    y = torch.randn(1, 1, 33, 33)
    other = y.clone()
    other[..., 16, 16] += 1.0
    reached = ((net(0.3, y) - net(0.3, other)).abs() > 0).nonzero()[:, 2:]
    far = 1 + 2 * (1 + 2 + 2) + 1  # a block down, two in the middle, two up
    assert (reached - 16).abs().max() == far


def test_samples_do_not_mix(double):
    net, y, t = stirred(small()), torch.randn(4, 2, 8, 8), torch.rand(4)
    whole = net(t, y)
    for i in range(4):
        assert torch.allclose(net(float(t[i]), y[i : i + 1]), whole[i : i + 1], atol=ROUNDING)
    assert not torch.allclose(net(t.flip(0), y), whole, atol=1e-3)


def count(channels, width, multipliers, blocks, attention_at, classes=0):
    """The number of parameters, from the paper's description."""

    def conv(a, b):
        return 9 * a * b + b

    def block(a, b):
        return 2 * a + conv(a, b) + 2 * b + conv(b, b) + (4 * width + 1) * 2 * b + ((a + 1) * b if a != b else 0)

    def attention(c):
        return 2 * c + 3 * c * (c + 1) + c * (c + 1)

    wide = [width * m for m in multipliers]
    total = (width + 1) * 4 * width + (4 * width + 1) * 4 * width + classes * 4 * width + conv(channels, width)
    now, skips = width, [width]
    for level, c in enumerate(wide):
        attends = 2**level in attention_at
        for _ in range(blocks):
            total += block(now, c) + attends * attention(c)
            now = c
            skips.append(c)
        if c is not wide[-1] or level < len(wide) - 1:
            total += conv(c, c)
            skips.append(c)
    total += 2 * block(now, now) + bool(attention_at) * attention(now)
    for level in reversed(range(len(wide))):
        for _ in range(blocks + 1):
            total += block(now + skips.pop(), wide[level]) + (2**level in attention_at) * attention(wide[level])
            now = wide[level]
        total += conv(now, now) if level else 0
    assert not skips
    return total + 2 * now + conv(now, channels)


@pytest.mark.parametrize(
    "options",
    [(1, 8, (1,), 1, ()), (3, 8, (1, 2, 2), 2, (4,)), (2, 12, (2, 1, 3, 1), 1, (1, 8)), (1, 8, (1, 2), 3, (2,))],
)
def test_parameters_are_as_many_as_described(options):
    assert sum(p.numel() for p in UNet(*options).parameters()) == count(*options)
    assert sum(p.numel() for p in UNet(*options, classes=7).parameters()) == count(*options, classes=7)


def test_the_network_of_the_paper_has_its_number_of_parameters():
    """DDPM on CIFAR-10 has 35,746,307 (35.7 million in arXiv 2006.11239), which shifts but does not scale."""
    with torch.device("meta"):
        net = UNet(3, 128, (1, 2, 2, 2), 2, (2,))
    scales = sum(p.numel() // 2 for name, p in net.named_parameters() if "modulation" in name)
    assert sum(p.numel() for p in net.parameters()) - scales == 35_746_307


def test_copies_are_the_same():
    net, y = stirred(small(classes=3, features=FourierFeatures)), torch.randn(2, 2, 8, 8)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(other(0.3, y), net(0.3, y))


def test_images_that_do_not_halve_so_often_are_refused():
    net = small()
    for size in ((10, 8), (8, 6), (1, 4)):
        with pytest.raises(ShapeError, match=f"{size[0]}×{size[1]} pixels.*multiples of 4: 4, 8, 12, …"):
            net(0.3, torch.rand(1, 2, *size))
    assert small(multipliers=(1,), attention_at=())(0.3, torch.rand(1, 2, 7, 5)).shape == (1, 2, 7, 5)


def test_other_states_and_labels_are_refused():
    net, y = small(), torch.rand(2, 2, 8, 8)
    for state in (y[:, :1], y[0], (y, y)):
        with pytest.raises(ShapeError, match=r"it needs images \(batch, 2, height, width\)"):
            net(0.3, state)
    with pytest.raises(ShapeError, match="3 noise labels for 2 samples"):
        net(torch.rand(3), y)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"channels": 0}, "channels=0"),
        ({"width": 7}, "width=7; it needs an even number"),
        ({"multipliers": ()}, "at least one"),
        ({"multipliers": (1, 0)}, r"multipliers=\[1, 0\]"),
        ({"blocks": 0}, "blocks=0"),
        ({"attention_at": (16,)}, r"attention_at=\[16\]; its 3 levels .* among 1, 2, 4: say those n"),
        ({"heads": 3}, "channels=16 and heads=3"),
        ({"heads": 0}, "heads=0"),
        ({"groups": 0}, "groups=0"),
        ({"dropout": 1.0}, "dropout=1"),
        ({"classes": 0}, "classes=0"),
        ({"label_drop": 0.1}, "label_drop=0.1, classes=None"),
        ({"label_drop": 1.0, "classes": 3}, "label_drop=1"),
    ],
)
def test_what_cannot_be_is_refused(options, told):
    with pytest.raises(InputError, match=told):
        small(**options)
