"""Station: the measuring bench, as pytest knows it: one test for each claim of a solver or a gradient rule.

Mark a test that asks for `claim` with `@pytest.mark.conformance(solvers=[MySolver])`, or with `gradients=[MyRule]`; its
body is `claim.verify()`.
"""

from __future__ import annotations

import pytest

__all__ = ["pytest_configure", "pytest_generate_tests"]


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers", "conformance(solvers=[…], gradients=[…]): run the test for each claim of the classes"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each claim of the marked classes to a test that asks for `claim`."""
    marker = metafunc.definition.get_closest_marker("conformance")
    if marker is None or "claim" not in metafunc.fixturenames:
        return
    from .testing import claims, gradient_claims  # here, so that pytest starts without torch where nobody asks for it

    of_solvers = [claim for solver in marker.kwargs.get("solvers", ()) for claim in claims(solver)]
    of_rules = [claim for rule in marker.kwargs.get("gradients", ()) for claim in gradient_claims(rule)]
    metafunc.parametrize("claim", [*of_solvers, *of_rules], ids=str)
