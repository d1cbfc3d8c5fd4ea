"""Tableaus: their own checks, and that the numbers are right, by the order conditions of all rooted trees."""

from functools import cache

import numpy as np
import pytest
from scipy.integrate import DOP853, RK23, RK45

from deqlight.errors import InputError
from deqlight.solvers import RK4, RK38, SSPRK3, Bosh3, Dopri5, Dopri8, Euler, Heun, Midpoint, Ralston, Tableau, Tsit5
from deqlight.solvers.tableau import interpolant

CONDITION = 5e-14
"""Rounding in sums of some ten products; entries are below 50, in dense rows some hundreds."""

VIOLATION = 1e-5
"""The smallest principal error coefficient of these methods is 2.7e-5, that of Dopri8."""

SLOPE = 1e-11
"""The same for slopes of dense rows, sums of products of some thousands that cancel."""

SAME = 1e-15
"""Two ways to round the same quotients, and sums of them."""

METHODS = (Euler, Midpoint, Heun, Ralston, SSPRK3, RK4, RK38, Bosh3, Dopri5, Tsit5, Dopri8)
PAIRS = {Heun: 1, Ralston: 1, Bosh3: 2, Dopri5: 4, Tsit5: 4, Dopri8: 5}
CONTINUOUS = {Bosh3: 3, Dopri5: 4, Tsit5: 4, Dopri8: 7}


@cache
def trees(n):
    """All rooted trees of n nodes, each the sorted tuple of what hangs on its root."""

    def forests(rest, largest):
        if rest == 0:
            yield ()
        for size in range(min(rest, largest), 0, -1):
            for tree in trees(size):
                yield from ((tree, *others) for others in forests(rest - size, size))

    return tuple({tuple(sorted(forest)) for forest in forests(n - 1, n - 1)})


def nodes(tree):
    return 1 + sum(map(nodes, tree))


def density(tree):
    product = nodes(tree)
    for branch in tree:
        product *= density(branch)
    return product


def elementary(tree, a):
    weight = np.ones(len(a))
    for branch in tree:
        weight = weight * (a @ elementary(branch, a))
    return weight


def matrix(tableau):
    rows = (*tableau.a, *tableau.extra)
    return np.array([[*row, *[0.0] * (len(rows) - len(row))] for row in rows])


def defect(weights, a, order, x=1.0):
    """How far a quadrature on [0, x] is from the exact one, for the worst tree of this order."""
    weights = np.array([*weights, *[0.0] * (len(a) - len(weights))])
    return max(abs(weights @ elementary(tree, a) - x**order / density(tree)) for tree in trees(order))


def satisfies(weights, a, order, x=1.0):
    return all(defect(weights, a, p, x) < CONDITION for p in range(1, order + 1))


def test_there_are_as_many_trees_as_there_should_be():
    assert [len(trees(n)) for n in range(1, 10)] == [1, 1, 2, 4, 9, 20, 48, 115, 286]


@pytest.mark.parametrize("method", METHODS)
def test_the_order_conditions_hold_and_those_of_the_next_order_do_not(method):
    tableau, order = method.tableau, method.info.order
    assert satisfies(tableau.b, matrix(tableau), order)
    assert defect(tableau.b, matrix(tableau), order + 1) > VIOLATION


@pytest.mark.parametrize(("method", "order"), PAIRS.items())
def test_the_embedded_method_has_its_order_and_no_more(method, order):
    tableau = method.tableau
    embedded = np.subtract(tableau.b, tableau.b_error)
    assert satisfies(embedded, matrix(tableau), order)
    assert defect(embedded, matrix(tableau), order + 1) > VIOLATION


def test_the_damping_method_of_dopri8_has_order_three():
    embedded = np.subtract(Dopri8.tableau.b, Dopri8.tableau.b_damp)
    assert satisfies(embedded, matrix(Dopri8.tableau), 3)
    assert defect(embedded, matrix(Dopri8.tableau), 4) > VIOLATION


@pytest.mark.parametrize("x", [0.15, 0.5, 0.85])
@pytest.mark.parametrize(("method", "order"), CONTINUOUS.items())
def test_the_continuous_extension_has_its_order_everywhere(method, order, x):
    tableau = method.tableau
    weights = np.array(tableau.dense) @ x ** np.arange(1, len(tableau.dense[0]) + 1)
    assert satisfies(weights, matrix(tableau), order, x)


@pytest.mark.parametrize("method", CONTINUOUS)
def test_the_continuous_extension_meets_the_slopes_at_both_ends(method):
    rows, end = np.array(method.tableau.dense), method.tableau.stages - 1
    powers = np.arange(1, rows.shape[1] + 1)
    assert np.abs(rows[:, 0] - (np.arange(len(rows)) == 0)).max() == 0
    assert np.abs(rows @ powers - (np.arange(len(rows)) == end)).max() < SLOPE


@pytest.mark.parametrize(("method", "peer"), [(Bosh3, RK23), (Dopri5, RK45), (Dopri8, DOP853)])
def test_numbers_are_those_of_scipy(method, peer):
    tableau, n = method.tableau, peer.n_stages
    assert tableau.stages == n + 1 and tableau.fsal
    np.testing.assert_allclose(matrix(tableau)[:n, : peer.A.shape[1]], peer.A, rtol=0, atol=SAME)
    np.testing.assert_allclose(tableau.b[:n], peer.B, rtol=0, atol=SAME)
    np.testing.assert_allclose(tableau.c[:n], peer.C, rtol=0, atol=SAME)


@pytest.mark.parametrize(("method", "peer"), [(Bosh3, RK23), (Dopri5, RK45)])
def test_error_weights_and_dense_rows_are_those_of_scipy(method, peer):
    np.testing.assert_allclose(method.tableau.b_error, -peer.E, rtol=0, atol=SAME)  # scipy has the sign reversed
    np.testing.assert_allclose(method.tableau.dense, peer.P, rtol=0, atol=100 * SAME)


def test_error_weights_and_further_stages_of_dopri8_are_those_of_scipy():
    np.testing.assert_allclose(Dopri8.tableau.b_error, DOP853.E5, rtol=0, atol=SAME)
    np.testing.assert_allclose(Dopri8.tableau.b_damp, DOP853.E3, rtol=0, atol=SAME)
    np.testing.assert_allclose(matrix(Dopri8.tableau)[13:], DOP853.A_EXTRA, rtol=0, atol=SAME)
    np.testing.assert_allclose([sum(row) for row in Dopri8.tableau.extra], DOP853.C_EXTRA, rtol=0, atol=SAME)


@pytest.mark.parametrize("method", METHODS)
def test_stability_is_claimed_as_far_as_it_goes_and_not_beyond(method):
    tableau, claimed = method.tableau, method.info.stability
    a = matrix(tableau)[: tableau.stages, : tableau.stages]

    def growth(z):
        return abs(1 + z * np.dot(tableau.b, np.linalg.solve(np.eye(len(a)) - z * a, np.ones(len(a)))))

    assert all(growth(-z) <= 1 + CONDITION for z in np.linspace(0, claimed, 1000))
    assert growth(-claimed - 0.02) > 1


def test_a_row_that_misses_its_node_is_refused_by_number():
    with pytest.raises(InputError, match=r"row 2 .* sums to 0\.75, its node is 0\.5"):
        Tableau(c=(0.0, 0.5, 0.5), a=((), (0.5,), (0.25, 0.5)), b=(0.0, 0.0, 1.0))


def test_weights_must_sum_to_one():
    with pytest.raises(InputError, match=r"weights b sum to 1\.5"):
        Tableau(c=(0.0, 1.0), a=((), (1.0,)), b=(0.5, 1.0))


def test_lengths_must_fit():
    with pytest.raises(InputError, match="2 stages needs 2 nodes"):
        Tableau(c=(0.0,), a=((),), b=(0.5, 0.5))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"b_error": (1.0,)}, "2 stages got 1 weights b_error"),
        ({"b_error": (-0.5, 0.5), "b_damp": (1.0, 0.0, 0.0)}, "2 stages got 3 weights b_damp"),
        ({"dense": ((1.0, -0.5),)}, r"dense got 1 rows; with 2 \+ 0 stages it needs 2"),
        ({"dense": ((1.0, -0.5), (0.0, 0.4))}, r"row 1 of dense sums to 0\.4, not to its weight 0\.5"),
        ({"extra": ((0.5,),)}, "extra stages after 2 need rows of 2, 3"),
        ({"b_damp": (-0.5, 0.5)}, "b_damp without b_error"),
        ({"extra": ((0.25, 0.25),)}, "extra stages without dense"),
    ],
)
def test_what_does_not_fit_is_refused(more, message):
    with pytest.raises(InputError, match=message):
        Tableau(c=(0.0, 1.0), a=((), (1.0,)), b=(0.5, 0.5), **more)


def test_fsal_is_read_off_the_numbers():
    assert Dopri5.tableau.fsal and not Heun.tableau.fsal


def test_without_bends_the_interpolant_is_hermites_cubic():
    x, (first, last) = 0.3, interpolant((0.5, 0.5))
    blend = x * x * (3 - 2 * x)  # the weight of y1
    powers = (x, x * x, x**3)
    assert np.dot(first, powers) == pytest.approx(blend * 0.5 + x * (1 - x) ** 2, abs=SAME)
    assert np.dot(last, powers) == pytest.approx(blend * 0.5 - x * x * (1 - x), abs=SAME)
