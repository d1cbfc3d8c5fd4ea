"""`deqlight export` and `deqlight.load`: the same network elsewhere, what is refused, and what is not believed."""

import json
import sys

import pytest
import torch
import yaml

import deqlight as package
from deqlight.cli import weights
from deqlight.cli.export import exported
from deqlight.cli.load import load
from deqlight.controllers import PID
from deqlight.errors import CheckpointError, ConfigError

ROUNDING = 1e-6  # of float32 outputs of order one; the program has the same operations
BATCH = torch.Generator().manual_seed(3)
X = torch.randn(7, 1, 8, 8, generator=BATCH)


@pytest.fixture(scope="module")
def needs_safetensors():
    pytest.importorskip("safetensors", reason="the extra `export` is not installed")


@pytest.fixture
def written(deqlight, trained, tmp_path, needs_safetensors):
    done = deqlight("export", "--ckpt_path", trained, "--out", "out")
    assert done.code == 0, done.err
    return tmp_path / "out"


def test_a_checkpoint_gives_its_network(trained):
    net = package.load(trained)
    assert not net.training and type(net).__name__ == "DepthNet"
    state = torch.load(trained, weights_only=True)["state_dict"]
    assert all(torch.equal(value, state[f"net.{name}"]) for name, value in net.state_dict().items())


def test_loading_draws_no_random_number(trained):
    before = torch.get_rng_state()
    load(trained)
    assert torch.equal(before, torch.get_rng_state())


def test_exported_weights_give_the_same_numbers(trained, written):
    net, again = load(trained), load(written)
    with torch.no_grad():
        assert torch.equal(net(X), again(X))
        assert torch.equal(net(X), load(written / "model.safetensors")(X))


def test_the_card_says_what_it_is(trained, written):
    card = (written / "README.md").read_text()
    for part in ("# resnet_digits", "DepthNet", "LinearTwoStep", "deqlight.data.Digits", "val/accuracy (last epoch)"):
        assert part in card, part
    for part in ("deqlight.load(", f"torch | {torch.__version__}", "effective | 32", "sha256", "seed_everything: 7"):
        assert part in card, part
    assert yaml.safe_load((written / "config.yaml").read_text())["model"]["class_path"].endswith("Classify")


def test_options_beat_the_checkpoint(deqlight, trained, needs_safetensors):
    done = deqlight("export", "--ckpt_path", trained, "--out=out", "--model.net.max_steps=99")
    assert done.code == 0, done.err
    assert load("out").max_steps == 99


def test_a_program_gives_the_same_numbers_for_other_batches(deqlight, trained):
    done = deqlight("export", "--ckpt_path", trained, "--format=torch_export")
    assert done.code == 0, done.err
    folder = trained.parents[1] / "export" / "version_0"  # below the run, where nothing else is asked for
    program, net = torch.export.load(folder / "model.pt2").module(), load(trained)
    with torch.no_grad():
        assert (program(X) - net(X)).abs().max() <= ROUNDING
    assert "torch.export.load" in (folder / "README.md").read_text()


def test_measured_steps_are_refused_with_the_remedy(trained):
    net = load(trained)
    net.controller = PID(rtol=1e-3, atol=1e-3)
    with pytest.raises(ConfigError, match=r"steps by PID.*use Constant\(steps=…\)"):
        exported(net, X)


def test_a_network_that_draws_is_not_exported_with_other_numbers(trained):
    class Noisy(torch.nn.Module):
        def forward(self, x):
            return x + torch.randn_like(x)

    with pytest.raises(ConfigError, match=r"off by .*noise"):
        exported(Noisy(), X)


def test_what_torch_cannot_follow_is_refused(trained):
    class Wayward(torch.nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(ConfigError, match=r"cannot follow this network.*safetensors"):
        exported(Wayward(), X)


def test_mistakes(deqlight, trained, tmp_path):
    assert "needs a trained network" in deqlight("export").err
    done = deqlight("export", "--ckpt_path", trained, "--format=onnx")
    assert done.code == 2 and "it must be one of safetensors, torch_export" in done.err
    (tmp_path / "file").touch()
    assert "--out file cannot be made" in deqlight("export", "--ckpt_path", trained, "--out=file").err


def test_without_the_package_the_extra_is_named(deqlight, trained, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    done = deqlight("export", "--ckpt_path", trained, "--out=out")
    assert done.code == 2
    assert "pip install 'deqlight[export]'" in done.err


def test_what_is_not_believed(trained, written, tmp_path):
    state, told = weights.read(written / "model.safetensors")
    told["config"]["model"]["class_path"] = "os.system"
    weights.write(tmp_path / "evil.safetensors", state, told)
    with pytest.raises(CheckpointError, match=r"names 'os.system'"):
        load(tmp_path / "evil.safetensors")


def test_files_that_are_none(tmp_path, needs_safetensors):
    import safetensors.torch

    with pytest.raises(CheckpointError, match="there is no"):
        load(tmp_path / "absent.ckpt")
    with pytest.raises(CheckpointError, match="there is no"):
        load(tmp_path)
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\x00")
    with pytest.raises(CheckpointError, match="is it whole"):
        load(tmp_path / "cut.safetensors")
    safetensors.torch.save_file({"w": torch.ones(1)}, tmp_path / "others.safetensors", {"deqlight": json.dumps([1])})
    with pytest.raises(CheckpointError, match="does not say of which network"):
        load(tmp_path / "others.safetensors")


def test_weights_of_another_network_are_refused(trained, written, tmp_path):
    state, told = weights.read(written / "model.safetensors")
    state.pop(next(name for name in state if name.endswith("weight")))
    weights.write(tmp_path / "less.safetensors", state, told)
    with pytest.raises(CheckpointError, match=r"is of another network: .*Missing key"):
        load(tmp_path / "less.safetensors")


def test_tied_weights_are_written_apart(tmp_path, needs_safetensors):
    one = torch.arange(4.0)
    weights.write(tmp_path / "tied.safetensors", {"a": one, "b": one[1:], "c": one.reshape(2, 2).T}, {"config": {}})
    state, _ = weights.read(tmp_path / "tied.safetensors")
    assert torch.equal(state["b"], one[1:]) and torch.equal(state["c"], one.reshape(2, 2).T)
