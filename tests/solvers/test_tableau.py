import pytest

from deqlight.errors import InputError
from deqlight.solvers import Dopri5, Heun, Tableau


def test_a_row_that_misses_its_node_is_refused_by_number():
    with pytest.raises(InputError, match=r"row 2 .* sums to 0\.75, its node is 0\.5"):
        Tableau(c=(0.0, 0.5, 0.5), a=((), (0.5,), (0.25, 0.5)), b=(0.0, 0.0, 1.0))


def test_weights_must_sum_to_one():
    with pytest.raises(InputError, match=r"weights b sum to 1\.5"):
        Tableau(c=(0.0, 1.0), a=((), (1.0,)), b=(0.5, 1.0))


def test_lengths_must_fit():
    with pytest.raises(InputError, match="2 stages needs 2 nodes"):
        Tableau(c=(0.0,), a=((),), b=(0.5, 0.5))


def test_fsal_is_read_off_the_numbers():
    assert Dopri5.tableau.fsal and not Heun.tableau.fsal
