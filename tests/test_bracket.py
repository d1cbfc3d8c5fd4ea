"""Roots between two signs: as exact as numbers are, row by row, in few evaluations, and never in many."""

import numpy as np
import pytest

from deqlight.rootfind import bracketed

ROOTS = np.linspace(0.013, 0.987, 41)

SMOOTH = {
    "line": lambda x, r: x - r,
    "growth": lambda x, r: np.exp(20 * x) - np.exp(20 * r),
    "power": lambda x, r: (x - r) * (1 + x) ** 4,
    "wave": lambda x, r: np.sin(x) - np.sin(r),
    "falling": lambda x, r: 1 / (1 + x) - 1 / (1 + r),
}
FEW, MANY = 14, 94
"""Evaluations that smooth functions may take, and any function at all."""


def solved(fn, roots, tolerance=0.0):
    calls = []

    def counted(x):
        calls.append(1)
        return fn(x, roots)

    a, b = np.zeros_like(roots), np.ones_like(roots)
    x = bracketed(counted, (a, b), (fn(a, roots), fn(b, roots)), np.full_like(roots, tolerance))
    return x, len(calls)


@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_functions(name):
    x, calls = solved(SMOOTH[name], ROOTS)
    assert np.abs(x - ROOTS).max() < 4e-16 and calls <= FEW


@pytest.mark.parametrize(
    "fn",
    [
        lambda x, r: np.where(x < r, -1.0, 1e-9),
        lambda x, r: np.where(x < r, -np.inf, 1e-300),
        lambda x, r: np.sign(x - r) * np.abs(x - r) ** 0.1,
        lambda x, r: (x - r) ** 3,
    ],
    ids=["step", "infinite", "steep", "flat"],
)
def test_any_function(fn):
    x, calls = solved(fn, ROOTS)
    assert np.abs(x - ROOTS).max() < 4e-16 and calls <= MANY


def test_what_rounding_hides_takes_no_time():
    """Values that are lost in their own rounding long before the numbers between the ends run out."""
    x, calls = solved(lambda x, r: (x + 1e6) - (r + 1e6), ROOTS)
    assert np.abs(x - ROOTS).max() < 1e-9 and calls <= FEW


def test_each_row_as_if_it_were_alone():
    for fn in SMOOTH.values():
        together, _ = solved(fn, ROOTS)
        for i in range(len(ROOTS)):
            assert solved(fn, ROOTS[i : i + 1])[0] == together[i]


def test_tolerances_and_exact_ends():
    for tolerance in (1e-3, 1e-9):
        x, _ = solved(SMOOTH["growth"], ROOTS, tolerance)
        assert np.abs(x - ROOTS).max() <= 2 * tolerance
    end = bracketed(lambda x: 1 / 0, (np.zeros(1), np.ones(1)), (-np.ones(1), np.zeros(1)), np.zeros(1))
    assert end == 1.0
    nothing = np.zeros(0)
    assert bracketed(lambda x: x, (nothing, nothing), (nothing, nothing), nothing).shape == (0,)
