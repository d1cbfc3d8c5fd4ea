"""Where numbers that are known at some points pass zero."""

import numpy as np
import pytest

from deqlight.integrate.signs import changes, with_vertex_of

X = np.array([0.0, 0.25, 0.5, 0.75, 1.0])[:, None]


def found(*values):
    between = changes(X, np.array(values)[:, None])
    return list(zip(between.start.tolist(), between.end.tolist(), strict=True))


def test_changes_of_sign():
    assert found(1.0, 2.0, -1.0, -1.0, 3.0) == [(0.25, 0.5), (0.75, 1.0)]
    assert found(1.0, 2.0, 3.0, 1.0, 2.0) == []


def test_arriving_at_zero_is_one_change_and_leaving_it_is_none():
    assert found(1.0, 0.0, 0.0, -1.0, -1.0) == [(0.0, 0.25)]
    assert found(0.0, 1.0, 1.0, 1.0, 0.0) == [(0.75, 1.0)]
    assert found(1.0, 0.0, 1.0, -1.0, -1.0) == [(0.0, 0.25), (0.5, 0.75)]


@pytest.mark.parametrize("low", [0.1, 0.3, 0.45, 0.62, 0.9])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_vertex_of_a_parabola_that_passes_between_the_points(low, sign):
    values = sign * ((X - low) ** 2 - 1e-6)
    rows, vertex = with_vertex_of(np.repeat(X, 2, 1), np.concatenate([np.ones_like(X), values], 1))
    assert rows.tolist() == [1] and vertex[0] == pytest.approx(low, abs=1e-12)


def test_no_vertex_where_none_comes_near():
    for values in (1 + (X - 0.4) ** 2, np.exp(X), 2 - X, np.ones_like(X), np.zeros_like(X)):
        rows, vertex = with_vertex_of(X, values)
        assert not len(rows) and not len(vertex)
