"""What the house promises of itself: imports, sizes, words."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "deqlight").rglob("*.py"))


def modules_after(code):
    out = subprocess.run(
        [sys.executable, "-c", f"import sys; {code}; print(*sys.modules)"], capture_output=True, check=True
    )
    return set(out.stdout.decode().split())


def test_importing_deqlight_costs_nothing():
    assert not {"torch", "lightning", "torchmetrics", "jsonargparse", "numpy"} & modules_after("import deqlight")


@pytest.mark.parametrize(
    "code", ["from deqlight import solve, ODETerm, Layered, Partitioned, Solution", "import deqlight.nets"]
)
def test_the_mathematics_imports_no_framework(code):
    assert not {"lightning", "torchmetrics", "jsonargparse", "pluggy", "rich", "sklearn"} & modules_after(code)


def test_pytest_starts_without_torch():
    assert "torch" not in modules_after("import deqlight.pytest_plugin")


def test_public_names():
    import deqlight
    from deqlight.controllers import PID, Constant
    from deqlight.gradients import Direct, Reversible

    assert all(getattr(deqlight, name) for name in deqlight.__all__)
    assert callable(deqlight.solve) and deqlight.solvers.Heun and all((PID, Constant, Direct, Reversible))
    with pytest.raises(AttributeError, match="no attribute 'slove'"):
        deqlight.slove  # noqa: B018


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_sizes(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 350
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 60, node.name


def test_one_clock():
    """Loops over time stand in integrate/ alone: one over fixed grids, one with measured steps."""
    loops = [
        f"{p.parent.name}/{p.name}"
        for p in SOURCES
        if re.search(r"while .*running|for .* in .*pairwise\(times\)|for n in reversed\(steps\)", p.read_text())
    ]
    assert loops == ["integrate/fixed.py", "integrate/measured.py"]


def test_a_solve_reads_no_rank():
    mathematics = [
        p
        for p in SOURCES
        if p.relative_to(ROOT).parts[1] not in {"callbacks", "cli", "tasks", "data", "plugin", "testing"}
    ]
    assert not [
        p for p in mathematics if re.search(r"torch\.distributed|LOCAL_RANK|get_rank|all_reduce", p.read_text())
    ]


def test_no_asserts_validate():
    for path in SOURCES:
        assert not [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Assert)], path
