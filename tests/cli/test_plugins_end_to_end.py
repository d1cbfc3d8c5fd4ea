"""Broken plugins beside a healthy one, seen from the command line: it stays alive and names each."""

import os
import subprocess
import sys
import textwrap

import pytest

HEALTHY = """
    from deqlight.plugin import impl
    from deqlight.solvers import Heun

    class Mine(Heun):
        \"\"\"Heun's method under another name.\"\"\"

    @impl
    def deqlight_solvers():
        return [Mine]
"""
BROKEN = {
    "unimportable": ("import surely_not_installed", "No module named 'surely_not_installed'"),
    "duplicate": (HEALTHY.replace("Mine", "RK4"), "RK4"),
    "misspelt": (HEALTHY.replace("deqlight_solvers", "deqlight_slovers").replace("Mine", "Other"), "deqlight_slovers"),
}


@pytest.fixture
def plugins(tmp_path, monkeypatch):
    """Distributions as pip would leave them, on the path of the processes that the test starts."""
    for name, (code, _) in {**BROKEN, "healthy": (HEALTHY, "")}.items():
        (tmp_path / f"deqlight_{name}.py").write_text(textwrap.dedent(code))
        info = tmp_path / f"deqlight_{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: deqlight-{name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[deqlight]\n{name} = deqlight_{name}\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


def deqlight(*words, folder):
    command = [sys.executable, "-m", "deqlight", *words]
    env = {**os.environ, "COLUMNS": "240"}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False, env=env)


def test_the_table_names_the_broken_and_why(plugins):
    done = deqlight("plugins", folder=plugins)
    assert done.returncode == 0
    for name, (_, reason) in BROKEN.items():
        (row,) = [line for line in done.stdout.splitlines() if f"deqlight-{name}:{name}" in line]
        assert "failed" in row
        assert reason in done.stderr
        assert done.stderr.count(f"plugin {name} (deqlight-{name} 1.0) is disabled") == 1, done.stderr


def test_the_healthy_one_trains_and_what_it_builds_on_stays_a_choice(plugins):
    brief = ["--trainer.fast_dev_run", "true", "--trainer.accelerator", "cpu"]
    for solver in ("Mine", "Heun", "RK4"):
        done = deqlight("fit", "-c", "resnet_digits", "--model.net.solver", solver, *brief, folder=plugins)
        assert done.returncode == 0, done.stderr
    done = deqlight("fit", "-c", "resnet_digits", "--model.net.solver", "Heunn", folder=plugins)
    assert done.returncode == 2
    assert "did you mean Heun?" in done.stderr
    done = deqlight("fit", "-c", "resnet_digits", "--model.net.solver", "Zzz", folder=plugins)  # near to none: all
    assert done.returncode == 2
    assert "Mine" in done.stderr and "Other" not in done.stderr
