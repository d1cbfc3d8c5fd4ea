import os
import pickle
import sys
from pathlib import Path

import pytest
import torch
import yaml

from deqlight.cli import checkpoint
from deqlight.cli.storage import AtomicIO
from deqlight.errors import CheckpointError
from deqlight.plugin.manager import host

CONTENT = {"state_dict": {"w": torch.arange(1000.0)}, "deqlight": {"config": {"model": {"class_path": "Classify"}}}}


def saved(path, content=CONTENT):
    torch.save(content, path)
    return path


def truncated(path):
    path.write_bytes(saved(path).read_bytes()[:-500])


def flipped(path):
    content = bytearray(saved(path).read_bytes())
    content[content.index(torch.arange(1000.0)[500:600].numpy().tobytes())] ^= 1
    path.write_bytes(content)


class Payload:
    def __reduce__(self):
        return (Path.touch, (Path("ran"),))


BAD = {
    "missing": (lambda path: None, "there is no checkpoint"),
    "empty": (lambda path: path.write_bytes(b""), "cannot be read"),
    "a text": (lambda path: path.write_text("hello"), "cannot be read"),
    "a folder": (lambda path: path.mkdir(), "there is no checkpoint"),
    "truncated": (truncated, "cannot be read"),
    "one bit flipped": (flipped, "is damaged"),
    "a pickle": (lambda path: path.write_bytes(pickle.dumps(CONTENT)), "cannot be read"),
    "code in it": (lambda path: saved(path, {**CONTENT, "x": Payload()}), "holds objects"),
    "a list": (lambda path: saved(path, [1, 2]), "no Lightning checkpoint"),
    "weights alone": (lambda path: saved(path, CONTENT["state_dict"]), "no Lightning checkpoint"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_checkpoint(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    make, part = BAD[kind]
    make(tmp_path / "x.ckpt")
    for read in (checkpoint.load, checkpoint.stamp, AtomicIO().load_checkpoint):
        with pytest.raises(CheckpointError, match=part) as caught:
            read(tmp_path / "x.ckpt")
        assert str(tmp_path / "x.ckpt") in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_what_is_one(tmp_path):
    path = saved(tmp_path / "x.ckpt")
    assert torch.equal(checkpoint.load(path)["state_dict"]["w"], torch.arange(1000.0))
    assert checkpoint.stamp(path) == CONTENT["deqlight"]
    assert checkpoint.stamp(saved(tmp_path / "y.ckpt", {"state_dict": {}})) is None


def test_the_newest_is_found(tmp_path):
    for number, name in enumerate(["a/version_0", "b/version_0", "a/version_1", "a/version_10"]):
        path = tmp_path / name / "checkpoints" / "last.ckpt"
        path.parent.mkdir(parents=True)
        path.touch()
        stamp = 10 - number if "10" not in name else 20
        os.utime(path, (stamp, stamp))
    assert checkpoint.find("last", tmp_path, None).parts[-4:-2] == ("a", "version_10")
    assert checkpoint.find("last", tmp_path, "b").parts[-4:-2] == ("b", "version_0")
    with pytest.raises(
        CheckpointError, match=r"no best checkpoint: nothing matches .*a/version_\*/checkpoints/best\.ckpt"
    ):
        checkpoint.find("best", tmp_path, "a")


EVIL = {
    "a class": {"class_path": "evil_module.Evil"},
    "a class deep down": {"model": {"init_args": {"x": [{"y": "evil_module.Evil"}]}}},
    "a function of the system": {"x": "os.system"},
    "another part of torch": {"x": "torch.hub.load"},
    "yaml in a text": {"x": "{class_path: evil_module.Evil}"},
    "json in a text": {"x": '{"class_path": "evil\\u005fmodule.Evil"}'},
    "with blanks": {"x": " evil_module.Evil "},
    "as a key": {"evil_module.Evil": 1},
    "a name that begins alike": {"x": "deqlightful.Evil"},
    "another's function, reached through ours": {"x": "lightning.pytorch.trainer.trainer.os.system"},
}


@pytest.mark.parametrize("kind", EVIL)
def test_a_stamp_that_would_import_something_is_refused(tmp_path, monkeypatch, kind):
    (tmp_path / "evil_module.py").write_text("class Evil: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(CheckpointError, match="--trust"):
        checkpoint.believe(EVIL[kind], tmp_path / "x.ckpt", checkpoint.packages(host()))
    assert "evil_module" not in sys.modules


def test_a_stamp_that_names_a_file_is_refused(tmp_path):
    (tmp_path / "more.yaml").write_text("class_path: evil_module.Evil\n")
    with pytest.raises(CheckpointError, match="--trust"):
        checkpoint.believe({"net": str(tmp_path / "more.yaml")}, tmp_path / "x.ckpt", ("deqlight",))


def test_our_own_stamps_are_believed(trained):
    checkpoint.believe(checkpoint.stamp(trained)["config"], trained, checkpoint.packages(host()))


def resolved(done):
    assert done.code == 0, done.err
    config = yaml.safe_load(done.out)
    return config, config["model"]["init_args"]["net"]["init_args"]["solver"]


def two_step(k):
    return {"class_path": "deqlight.solvers.LinearTwoStep", "init_args": {"k": k, "consistent": False, "learn": False}}


OTHER = ("-c", "resnet_digits")
BEATEN = {
    "the checkpoint beats the default": ((), two_step(0.125), 32),
    "a file beats the checkpoint": (OTHER, {"class_path": "deqlight.solvers.Euler"}, 64),
    "an option beats the checkpoint": (("--model.net.solver=Heun",), {"class_path": "deqlight.solvers.Heun"}, 32),
    "an option refines the checkpoint": (("--model.net.solver.k=0.5",), two_step(0.5), 32),
    "an option beats a file": ((*OTHER, "--model.net.solver=RK4"), {"class_path": "deqlight.solvers.RK4"}, 64),
    "an option beats a later file": (("--model.net.solver=RK4", *OTHER), {"class_path": "deqlight.solvers.RK4"}, 64),
}


@pytest.mark.parametrize("case", BEATEN)
def test_default_checkpoint_file_option(deqlight, trained, case):
    words, solver, batch_size = BEATEN[case]
    config, found = resolved(deqlight("test", "--ckpt_path", trained, *words, "--print_config"))
    assert found["class_path"] == solver["class_path"]
    assert {**solver.get("init_args", {}), **(found.get("init_args") or {})} == solver.get("init_args", {})
    assert config["data"]["init_args"]["batch_size"] == batch_size
    assert config["trainer"]["limit_train_batches"] is None  # an evaluation has a trainer of its own
    assert config["seed_everything"] == (0 if OTHER[0] in words else 7)


def test_to_go_on_needs_the_trainer_too(deqlight, trained):
    config, _ = resolved(deqlight("fit", "--ckpt_path", trained, "--print_config"))
    assert (config["trainer"]["max_epochs"], config["trainer"]["limit_train_batches"]) == (2, 3)
    assert (config["name"], config["runs"]) == ("resnet_digits", str(trained.parents[3]))
    config, _ = resolved(deqlight("fit", "--ckpt_path", trained, "--trainer.max_epochs=9", "--print_config"))
    assert config["trainer"]["max_epochs"] == 9


def test_a_test_needs_the_checkpoint_alone(deqlight, trained):
    done = deqlight("test", "--ckpt_path", "best", "--runs", trained.parents[3])
    assert done.code == 0, done.err
    assert "test/accuracy" in done.out
    assert f"best: {trained.with_name('best.ckpt')}" in done.err
    assert (trained.parents[1] / "test" / "version_0" / "metrics.csv").is_file()


def test_an_untrusted_stamp(deqlight, trained, tmp_path, monkeypatch):
    (tmp_path / "evil_module.py").write_text("from pathlib import Path\nPath('ran').touch()\n")
    monkeypatch.syspath_prepend(tmp_path)
    content = torch.load(trained, weights_only=True)
    content["deqlight"]["config"]["model"]["init_args"]["net"]["init_args"]["solver"] = {
        "class_path": "evil_module.Evil"
    }
    torch.save(content, tmp_path / "evil.ckpt")
    done = deqlight("test", "--ckpt_path", "evil.ckpt")
    assert done.code == 2
    assert "names 'evil_module.Evil'" in done.err
    assert not (tmp_path / "ran").exists()
    deqlight("test", "--ckpt_path", "evil.ckpt", "--trust")
    assert (tmp_path / "ran").exists()


def test_a_checkpoint_without_stamp_needs_a_config(deqlight, trained, tmp_path):
    content = torch.load(trained, weights_only=True)
    del content["deqlight"]
    torch.save(content, tmp_path / "bare.ckpt")
    done = deqlight("test", "--ckpt_path", "bare.ckpt")
    assert done.code == 2
    assert "name an experiment with -c" in done.err
    again = ("-c", "resnet_digits", "--model.net.solver=LinearTwoStep", "--trainer.limit_test_batches=1")
    assert deqlight("test", "--ckpt_path", "bare.ckpt", *again).code == 0


def test_weights_of_another_network(deqlight, trained):
    done = deqlight("test", "--ckpt_path", trained, "-c", "neural_ode_digits")
    assert done.code == 2
    assert "does not fit this network" in done.err


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = saved(tmp_path / "last.ckpt")
    before = path.read_bytes()

    def half(content, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(CheckpointError, match=r"last\.ckpt cannot be written.*No space left"):
        AtomicIO().save_checkpoint({}, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_save_goes_through_a_file_beside_the_target(tmp_path):
    AtomicIO().save_checkpoint(CONTENT, tmp_path / "new" / "last.ckpt")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["last.ckpt"]
    assert checkpoint.load(tmp_path / "new" / "last.ckpt")["state_dict"].keys() == {"w"}


def test_it_is_said_where_the_configuration_stands_over_the_checkpoints(deqlight, trained):
    """`-c` after training with another solver would otherwise test the weights of one network in another."""
    brief = ("--trainer.limit_test_batches=1", "--trainer.accelerator=cpu")
    done = deqlight("test", "--ckpt_path", trained, "-c", "resnet_digits", *brief)
    assert "not as the checkpoint was trained: model.net.solver: Euler now, LinearTwoStep then" in done.err
    done = deqlight("test", "--ckpt_path", trained, "--model.net.solver.k=0.25", *brief)
    assert "model.net.solver.k: 0.25 now, 0.125 then" in done.err
    assert "not as the checkpoint" not in deqlight("test", "--ckpt_path", trained, *brief).err


@pytest.fixture
def a_run(tmp_path):
    """The checkpoints of a run: `last` and, older, `best`."""
    folder = tmp_path / "a" / "version_0" / "checkpoints"
    folder.mkdir(parents=True)
    for age, name in enumerate(["last", "best"]):
        os.utime(saved(folder / f"{name}.ckpt"), (100 - age, 100 - age))
    return folder


@pytest.mark.parametrize(
    "damage", [truncated, flipped, lambda path: path.write_bytes(b"")], ids=["cut", "bit", "empty"]
)
def test_in_place_of_a_damaged_last_one_the_newest_whole_one_is_taken(tmp_path, a_run, damage):
    damage(a_run / "last.ckpt")
    os.utime(a_run / "last.ckpt", (200, 200))
    told = []
    assert checkpoint.sound("last", tmp_path, "a", told.append) == a_run / "best.ckpt"
    assert "last.ckpt" in told[0] and "is taken in place of" in told[1]
    damage(a_run / "best.ckpt")
    with pytest.raises(CheckpointError, match=r"no checkpoint in .* is whole"):
        checkpoint.sound("last", tmp_path, "a", told.append)


def test_code_in_the_last_one_is_no_damage(tmp_path, a_run):
    saved(a_run / "last.ckpt", {**CONTENT, "x": Payload()})
    with pytest.raises(CheckpointError, match="holds objects"):
        checkpoint.sound("last", tmp_path, "a", print)


def test_clocks_that_differ_are_told(tmp_path, a_run):
    later = tmp_path / "a" / "version_1" / "checkpoints"
    later.mkdir(parents=True)
    os.utime(saved(later / "last.ckpt"), (50, 50))
    told = []
    assert checkpoint.sound("last", tmp_path, "a", told.append) == a_run / "last.ckpt"
    assert "clocks" in told[0] and str(later) in told[0]


def test_auto_begins_where_there_is_nothing_and_goes_on_where_there_is(deqlight):
    brief = ("--trainer.limit_train_batches=2", "--trainer.limit_val_batches=1", "--trainer.accelerator=cpu")
    words = ("fit", "-c", "resnet_digits", "--ckpt_path", "auto", *brief)
    first = deqlight(*words, "--trainer.max_epochs=1")
    assert first.code == 0 and "auto: there is no checkpoint of resnet_digits in runs" in first.err
    second = deqlight(*words, "--trainer.max_epochs=2")
    assert second.code == 0 and "version_0/checkpoints/last.ckpt" in second.err
    assert checkpoint.load(Path("runs/resnet_digits/version_1/checkpoints/last.ckpt"))["global_step"] == 4
    refused = deqlight("test", "--ckpt_path", "auto")
    assert refused.code == 2 and "takes last or best" in refused.err
