import subprocess
import sys
import time

import pytest

WELL_UNDER_A_SECOND = 0.9  # 0.1 s on an idle machine
QUICK = [[], ["--help"], ["--version"], ["fit", "--help"], ["test", "-h"], ["plugins", "--help"], ["check", "--help"]]


@pytest.mark.parametrize("words", QUICK, ids=" ".join)
def test_help_and_version_need_no_torch(words):
    code = f"import sys; from deqlight.cli.main import main; sys.exit(main({words!r}) or 'torch' in sys.modules)"
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert time.perf_counter() - start < WELL_UNDER_A_SECOND
    assert done.stdout.startswith(("deqlight", "usage: deqlight"))


def test_the_module_runs_as_the_command_does():
    done = subprocess.run([sys.executable, "-m", "deqlight", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("deqlight 0.")


def test_the_help_of_a_command_fits_on_a_page_and_names_the_experiments(deqlight):
    shown = deqlight("fit", "--help").out
    assert len(shown.splitlines()) < 45
    for part in ("resnet_digits", "neural_ode_digits", "--model.net.solver", "--ckpt_path", "--help-all"):
        assert part in shown


def test_all_options_are_shown_on_request(deqlight):
    done = deqlight("fit", "--help-all")
    assert done.code == 0
    assert "--trainer.detect_anomaly" in done.out


def test_an_unknown_command(deqlight):
    done = deqlight("fitt")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: there is no command 'fitt'; did you mean fit?")


def test_plugins_are_listed(deqlight, tmp_path):
    (tmp_path / "mine.py").write_text(PLUGIN)
    done = deqlight("plugins", "--plugin", "mine.py")
    assert done.code == 0
    assert "builtin" in done.out
    assert "mine" in done.out


def test_a_solver_is_checked(deqlight, tmp_path):
    (tmp_path / "boaster.py").write_text(PLUGIN.replace("order=1", "order=2").replace("Mine", "Boaster"))
    done = deqlight("check", "Boaster", "--plugin", "boaster.py")
    assert done.code == 1
    assert "FAILS" in done.out


def test_what_cannot_be_checked(deqlight):
    assert deqlight("check").code == 2
    done = deqlight("check", "Eular")
    assert done.code == 2
    assert "did you mean Euler?" in done.err


def test_a_broken_plugin_file_is_an_error_of_one_line(deqlight, tmp_path):
    (tmp_path / "broken.py").write_text("import surely_not_installed\n")
    done = deqlight("fit", "-c", "resnet_digits", "--plugin", "broken.py")
    assert done.code == 2
    assert "broken.py" in done.err
    assert len(done.err.splitlines()) == 1


def test_debug_shows_the_traceback(deqlight):
    assert "Traceback" in deqlight("fit", "-c", "nothing", "--debug").err
    assert "Traceback" not in deqlight("fit", "-c", "nothing").err


PLUGIN = '''
from deqlight.plugin import impl
from deqlight.solvers import Solver, SolverInfo, Step


class Mine(Solver):
    """Euler's method, written by a guest."""

    info = SolverInfo(order=1, nfe_step=1)

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor

    def step(self, term, t0, t1, y0, carry):
        return Step(term.advance(y0, (self.factor,), (term.vf(t0, y0),), term.control(t0, t1)))


@impl
def deqlight_solvers():
    return [Mine]
'''
