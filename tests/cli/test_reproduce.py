"""`deqlight reproduce`: bit for bit, or how far off, and what it refuses."""

import json
import shutil

import pytest
import torch

NUDGE = 1e-3


@pytest.fixture(scope="module")
def kept(trained, tmp_path_factory):
    """A copy of a run, which tests may change."""
    folder = tmp_path_factory.mktemp("kept") / "version_0"
    shutil.copytree(trained.parents[1], folder)
    return folder


@pytest.fixture
def manifest(kept):
    """Read, change and write the manifest; it is as it was afterwards."""
    path = kept / "manifest.json"
    before = path.read_text()

    def change(**changes):
        path.write_text(json.dumps({**json.loads(before), **changes}))

    yield change
    path.write_text(before)


def test_the_same_machine_gives_the_same_bits(deqlight, kept):
    done = deqlight("reproduce", kept)
    assert done.code == 0, done.err + done.out
    assert done.out.count("same, bit for bit") == 2
    assert "neither versions nor machine" in done.out
    assert (kept / "reproduce" / "version_0" / "checkpoints" / "last.ckpt").is_file()


def test_how_far_off_and_what_differs_is_told(deqlight, kept, manifest):
    whole = json.loads((kept / "manifest.json").read_text())
    metrics = {**whole["metrics"], "val/loss": whole["metrics"]["val/loss"] + NUDGE}
    manifest(metrics=metrics, versions={**whole["versions"], "torch": "1.0"}, plugins=[["deqlight-lost:lost", "3"]])
    done = deqlight("reproduce", kept)
    assert done.code == 1
    assert "off by 0.001 at most" in done.out and "same, bit for bit" in done.out
    assert f"torch: {torch.__version__} now, 1.0 then" in done.out
    assert "plugin deqlight-lost:lost: none now, 3 then" in done.out
    assert deqlight("reproduce", kept, "--tolerance", "2e-3").code == 0


def test_other_weights_are_not_reproduced(deqlight, kept):
    path = kept / "checkpoints" / "last.ckpt"
    whole, content = path.read_bytes(), torch.load(path, weights_only=True)
    next(value for name, value in content["state_dict"].items() if name.endswith("weight")).add_(NUDGE)
    torch.save(content, path)
    try:
        done = deqlight("reproduce", kept)
    finally:
        path.write_bytes(whole)
    assert done.code == 1
    assert "off by 0.001 at most" in done.out and "not reproduced, within 0" in done.out


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"status": "stopped", "reason": "Stopped: 143"}, "did not come to its end (stopped, Stopped: 143)"),
        ({"config": {"model": {"class_path": "os.system"}}}, "names 'os.system'"),
        ({"config": 3}, "is no manifest"),
    ],
    ids=["unfinished", "unbelieved", "foreign"],
)
def test_runs_that_cannot_be_run_again(deqlight, kept, manifest, changes, says):
    manifest(**changes)
    done = deqlight("reproduce", kept)
    assert (done.code, says in done.err) == (2, True), done.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "takes the folder of one run"),
        (("nowhere",), "there is no nowhere/manifest.json"),
        (("a", "--tolerance", "-1"), "--tolerance -1 is no number from 0 on"),
        (("a", "--tolerance=x"), "--tolerance x is no number"),
        (("a", "--tolerence", "1"), "did you mean --tolerance?"),
    ],
    ids=["none", "absent", "negative", "word", "misspelt"],
)
def test_mistakes(deqlight, words, says):
    done = deqlight("reproduce", *words)
    assert (done.code, says in done.err) == (2, True), done.err
