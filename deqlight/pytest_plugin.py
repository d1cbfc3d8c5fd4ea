"""Station: the measuring bench, as pytest knows it: one test for each claim of a solver.

Mark a test that asks for `claim` with `@pytest.mark.conformance(solvers=[MySolver])`; its body is `claim.verify()`.
"""

from __future__ import annotations

import pytest

__all__ = ["pytest_configure", "pytest_generate_tests"]


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", "conformance(solvers=[…]): run the test for each claim of the solver classes")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each claim of the marked solvers to a test that asks for `claim`."""
    marker = metafunc.definition.get_closest_marker("conformance")
    if marker is None or "claim" not in metafunc.fixturenames:
        return
    from .testing import claims  # here, so that pytest starts without torch where nobody asks for it

    found = [claim for solver in marker.kwargs["solvers"] for claim in claims(solver)]
    metafunc.parametrize("claim", found, ids=str)
