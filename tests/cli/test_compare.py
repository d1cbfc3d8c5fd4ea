"""`deqlight compare`: what it keeps, what it runs again, and what it writes."""

import csv
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deqlight.cli.line import read
from deqlight.cli.main import main

BRIEF = ("--trainer.max_epochs=2", "--trainer.limit_train_batches=2", "--trainer.limit_val_batches=1")
PATIENCE = 60  # seconds; a start takes 5 on an idle machine
ACCURACY, LOSS = "test/accuracy (share of 1)", "test/loss (as logged)"


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """The folder of a true comparison, two experiments by two seeds."""
    folder = tmp_path_factory.mktemp("compared")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["deqlight"])
        patch.chdir(folder)
        assert main(["compare", "resnet_digits", "anode_reflection", "--seeds", "2", "--out", "out", *BRIEF]) == 0
    for log in (folder / "out" / "logs").iterdir():
        assert "limit_val_batches=1)` was configured so 1 batch" in log.read_text()  # not 1.0, all batches
    return folder


def test_a_cell_has_what_fit_and_test_alone_give(compared, deqlight):
    cells = {(row["experiment"], row["seed"]): row for row in rows_of(compared / "out" / "cells.csv")}
    assert len(cells) == 4 and {row["status"] for row in cells.values()} == {"finished"}
    assert deqlight("fit", "-c", "resnet_digits", "--seed_everything=1", *BRIEF).code == 0
    assert deqlight("test", "-c", "resnet_digits", "--ckpt_path=best").code == 0
    (alone,) = rows_of(Path("runs/resnet_digits/version_0/test/version_0/metrics.csv"))
    cell = cells["resnet_digits", "1"]
    assert float(cell[ACCURACY]) == float(alone["test/accuracy"])
    assert float(cell["NFE (evaluations per sample)"]) == float(alone["nfe/forward"]) == 6
    assert cell["parameters (trained numbers)"] == "84666" and cell["epochs"] == "2"
    assert cell["checkpoint is"] == "best" and (compared / cell["checkpoint"]).is_file()
    assert "torch" in cell["machine"] and "thread" in cell["machine"]


def test_memory_is_that_of_the_bench(compared, deqlight):
    (cell, *_) = [r for r in rows_of(compared / "out" / "cells.csv") if r["experiment"] == "resnet_digits"]
    brief = ("--solvers=Euler", "--gradients=Direct", "--rounds=1", "--device=cpu", "--output=found.json")
    assert deqlight("bench", "-c", "resnet_digits", *brief).code == 0
    (row,) = json.loads(Path("found.json").read_text())["rows"]
    assert float(cell["memory kept for backward (MiB)"]) * 2**20 == pytest.approx(row["bytes kept"], rel=1e-12)


def test_the_table_is_made_of_the_cells(compared):
    cells, table = (rows_of(compared / "out" / name) for name in ("cells.csv", "table.csv"))
    for name, metric in (("resnet_digits", ACCURACY), ("anode_reflection", LOSS)):
        values = [float(row[metric]) for row in cells if row["experiment"] == name]
        (row,) = [row for row in table if row["experiment"] == name]
        assert len(values) == 2 and row["seeds"] == "0 1"
        assert float(row[f"{metric} mean"]) == statistics.fmean(values)
        assert float(row[f"{metric} std"]) == statistics.stdev(values) > 0
        assert (float(row[f"{metric} min"]), float(row[f"{metric} max"])) == (min(values), max(values))
    page = (compared / "out" / "table.md").read_text()
    assert "| `resnet_digits` | 2 |" in page and "Measured on" in page and "--trainer.max_epochs=2" in page
    assert (compared / "out" / "table.png").read_bytes().startswith(b"\x89PNG")


def test_a_second_run_trains_nothing(compared, monkeypatch, deqlight, stub):
    monkeypatch.chdir(compared)
    before = {path: path.stat().st_mtime_ns for path in Path("out/cells").iterdir()}
    done = deqlight("compare", "resnet_digits", "anode_reflection", "--seeds", "2", "--out", "out", *BRIEF)
    assert done.code == 0 and stub.took() == [] and "4 of 4 are there from before" in done.out
    assert {path: path.stat().st_mtime_ns for path in Path("out/cells").iterdir()} == before


def test_a_true_failure_is_kept_with_its_reason(deqlight):
    words = ("compare", "resnet_digits", "--seeds=1", "--model.optimizer.lr=1e30", *BRIEF)
    done = deqlight(*words)
    (cell,) = rows_of(Path("runs/compare/cells.csv"))
    assert done.code == 1 and cell["status"] == "failed" and cell["exit code"] == "4"
    assert "NaN or infinite" in cell["reason"] and "NaN or infinite" in done.out
    assert "Traceback" in Path(cell["log"]).read_text()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_what_is_killed_halfway_is_not_finished_and_ends_its_process(tmp_path, deqlight, stub, number, code):
    words = ["compare", "anode_reflection", "--seeds=1", "--out=out"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    line = [sys.executable, "-m", "deqlight", *words, "--trainer.max_epochs=100000"]
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background ignores it: not these
    process = subprocess.Popen(
        line, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    signal.signal(signal.SIGINT, heard)
    said = lambda: "".join(path.read_text() for path in tmp_path.glob("out/logs/*"))  # noqa: E731
    wait_for(lambda: "epoch 2/" in said())
    process.send_signal(number)
    assert process.wait(PATIENCE) == code
    wait_for(lambda: not running("compare_cell", str(Path("out", "runs")), "anode_reflection"))
    assert "epoch" in said() and not list(tmp_path.glob("out/cells/*"))
    assert deqlight(*words, "--trainer.max_epochs=100000").code == 0  # its lock is free
    assert stub.took() == [("anode_reflection", 0)]


def test_a_lost_terminal_ends_nothing_that_was_started_to_outlive_it(deqlight, stub, monkeypatch):
    def hung_up(cell, store):
        os.kill(os.getpid(), signal.SIGHUP)
        return stub(cell, store)

    monkeypatch.setattr("deqlight.cli.compare.trained", hung_up)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        assert deqlight("compare", "resnet_digits", "--seeds=1").code == 0
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        assert deqlight("compare", "resnet_digits", "--seeds=2").code == 129
    finally:
        signal.signal(signal.SIGHUP, before)


def wait_for(holds):
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def running(*words):
    """Whether a process has all these words in its command line."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if all(word in text for word in words):
            return True
    return False


def test_one_seed_of_all_after_the_other_and_only_what_is_missing(deqlight, stub):
    words = ("compare", "resnet_digits", "heun_digits")
    assert deqlight(*words, "--seeds=1,4").code == 0
    assert stub.took() == [(name, seed) for seed in (1, 4) for name in ("resnet_digits", "heun_digits")]
    assert deqlight(*words, "--seeds=2").code == 0
    assert stub.took() == [("resnet_digits", 0), ("heun_digits", 0)]
    (row, *_) = rows_of(Path("runs/compare/table.csv"))
    assert row["seeds"] == "0 1 4" and float(row[f"{ACCURACY} mean"]) == pytest.approx(0.5 / 3)


def test_options_make_another_row(deqlight, stub):
    for options in ((), ("--model.optimizer.lr=0.1",), ("--model.optimizer.lr", "0.1")):
        assert deqlight("compare", "resnet_digits", "--seeds=1", *options).code == 0
    assert len(stub.took()) == 2  # the second and the third say the same
    assert [row["options"] for row in rows_of(Path("runs/compare/table.csv"))] == ["", "--model.optimizer.lr=0.1"]
    assert "`resnet_digits --model.optimizer.lr=0.1`" in Path("runs/compare/table.md").read_text()


def test_a_changed_file_runs_its_cells_alone_and_mixes_with_none_of_before(deqlight, stub, tmp_path):
    shipped = Path(__file__).parents[2] / "configs" / "experiment" / "resnet_digits.yaml"
    (tmp_path / "mine.yaml").write_text(shipped.read_text())
    words = ("compare", "mine.yaml", "heun_digits")
    assert deqlight(*words, "--seeds=3").code == 0
    stub.took()
    (tmp_path / "mine.yaml").write_text(shipped.read_text().replace("lr: 0.003", "lr: 0.004   # other"))
    done = deqlight(*words, "--seeds=2")
    assert done.code == 0 and "3 of changed configurations put aside" in done.out
    assert stub.took() == [("mine", 0), ("mine", 1)]
    counts = {row["experiment"]: row["finished"] for row in rows_of(Path("runs/compare/table.csv"))}
    assert counts == {"mine": "2", "heun_digits": "3"}
    (tmp_path / "mine.yaml").write_text(shipped.read_text() + "# a comment changes nothing\n")
    assert deqlight(*words, "--seeds=3").code == 0
    assert stub.took() == []


def test_a_file_is_laid_over_each_experiment(deqlight, stub, tmp_path):
    (tmp_path / "short.yaml").write_text("trainer: {max_epochs: 1}\n")
    assert deqlight("compare", "resnet_digits", "-c", "short.yaml", "--seeds=1").code == 0
    assert stub.configs[0]["trainer"]["max_epochs"] == 1 and len(stub.took()) == 1


def test_a_file_that_goes_on_from_a_checkpoint_is_refused(deqlight, stub, trained, tmp_path):
    (tmp_path / "more.yaml").write_text(f"ckpt_path: {trained}\n")
    done = deqlight("compare", "resnet_digits", "-c", "more.yaml")
    assert done.code == 2 and "each cell trains from its start" in done.err and stub.took() == []


def test_a_failed_cell_stays_and_is_run_again_on_request(deqlight, stub):
    stub.failing = {"heun_digits"}
    words = ("compare", "heun_digits", "resnet_digits", "--seeds=1")
    done = deqlight(*words)
    assert done.code == 1 and "1 of 2 failed" in done.out
    assert "- heun_digits, seed 0: failed, exit code 4: it | diverged" in Path("runs/compare/table.md").read_text()
    assert stub.took() == [("heun_digits", 0), ("resnet_digits", 0)]
    assert deqlight(*words).code == 1 and stub.took() == []
    stub.failing = set()
    assert deqlight(*words, "--retry").code == 0 and stub.took() == [("heun_digits", 0)]
    assert [row["failed"] for row in rows_of(Path("runs/compare/table.csv"))] == ["0", "0"]


def test_an_interruption_keeps_and_shows_what_is_finished(deqlight, stub, monkeypatch):
    def interrupted(cell, store):
        if cell.seed == 1:
            raise KeyboardInterrupt
        return stub(cell, store)

    monkeypatch.setattr("deqlight.cli.compare.trained", interrupted)
    done = deqlight("compare", "resnet_digits", "--seeds=3")
    assert done.code == 130 and "interrupted" in done.err
    assert [row["seed"] for row in rows_of(Path("runs/compare/cells.csv"))] == ["0"]


def test_drawing_runs_nothing(deqlight, stub):
    assert deqlight("compare", "resnet_digits", "--seeds=2").code == 0
    stub.took()
    for name in ("table.csv", "table.md", "table.png"):
        Path("runs/compare", name).unlink()
    assert deqlight("compare", "--draw").code == 0
    done = deqlight("compare", "resnet_digits", "--seeds=3", "--draw")
    assert "1 of 3 have not been run" in done.out and stub.took() == []
    assert Path("runs/compare/table.png").is_file()


def test_without_matplotlib_all_else_is_written(deqlight, stub, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    done = deqlight("compare", "resnet_digits", "--seeds=1")
    assert done.code == 0 and "pip install 'deqlight[plots]'" in done.out
    assert not Path("runs/compare/table.png").exists() and Path("runs/compare/table.md").is_file()


def test_two_processes_share_a_folder(deqlight, stub, monkeypatch):
    """A second one, that comes while a cell is run, leaves that cell alone and runs the other."""
    own = []

    def meanwhile(cell, store):
        if not own:
            own.append(cell.seed)
            line = [sys.executable, "-c", OTHER, str(store.folder), cell.name]
            assert subprocess.run(line, capture_output=True, text=True, check=True).stdout == "busy\n"
        return stub(cell, store)

    monkeypatch.setattr("deqlight.cli.compare.trained", meanwhile)
    assert deqlight("compare", "resnet_digits", "--seeds=1").code == 0 and own


OTHER = """
import sys
from types import SimpleNamespace
from pathlib import Path
from deqlight.cli.compare_store import Busy, Store
try:
    with Store(Path(sys.argv[1])).claimed(SimpleNamespace(name=sys.argv[2]), wait=False):
        print("free")
except Busy:
    print("busy")
"""


@pytest.mark.parametrize("text", ["{", "[]", '{"status": "finished"}'])
def test_a_corrupt_cell_is_told_and_not_overwritten(deqlight, stub, text):
    assert deqlight("compare", "resnet_digits", "--seeds=1").code == 0
    (cell,) = Path("runs/compare/cells").glob("*.json")
    cell.write_text(text)
    done = deqlight("compare", "resnet_digits", "--seeds=1")
    assert done.code == 2 and str(cell) in done.err and "delete it, and its cell is run again" in done.err
    assert cell.read_text() == text


def test_numbers_of_batches_are_read_as_whole_numbers():
    """In a process of its own: imports in another order make 1, one batch, into 1.0, all of them."""
    code = (
        "from deqlight.cli.main import main; import deqlight.cli.compare as c; from deqlight.cli.line import read;"
        "own = c.Plan(read(['compare', 'resnet_digits', '--trainer.limit_val_batches=1'])).entrants[0];"
        "print(repr(own.config['trainer']['limit_val_batches']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
    assert read(["compare", "a"]).command == "compare"
