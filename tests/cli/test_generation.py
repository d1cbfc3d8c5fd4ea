"""`deqlight sample` and `deqlight likelihood`: what they write, by what their numbers are decided, and mistakes."""

import csv
import json
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from deqlight.brownian import Key, keyed
from deqlight.cli.main import main
from deqlight.cli.sample_power import measure
from deqlight.data import Batch, EightGaussians, Points
from deqlight.fields import DenoisingMLP
from deqlight.nets import Denoiser, Exact, Sampler, bits_per_dim, log_likelihood
from deqlight.schedules import VP, UniformLogSNR
from deqlight.solvers import DDIM, AnalyticDPM, Dopri5, noise_power
from deqlight.tasks import Generate

VP_POINTS = Path(__file__).with_name("vp_points.yaml")
FLOAT32 = 1e-4  # of samples in batches of other sizes, which round differently
BRIEF = ("--trainer.max_epochs=8", "--trainer.accelerator=cpu", "--trainer.num_sanity_val_steps=0")
SMALL = ("--model.net.net.hidden=16", "--data.train=2048", "--data.val=64", "--data.test=40")


@pytest.fixture(scope="module")
def points(tmp_path_factory):
    """A checkpoint of points in the plane."""
    return fitted(tmp_path_factory.mktemp("points"), VP_POINTS, *SMALL)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A checkpoint of digits, whose network is told classes."""
    small = ("--model.net.net.width=8", "--model.net.net.attention_at=[]", "--trainer.limit_train_batches=4")
    return fitted(tmp_path_factory.mktemp("digits"), "diffusion_digits", *small, "--trainer.limit_val_batches=1")


def fitted(runs, experiment, *words):
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setattr("sys.argv", ["deqlight"])
        assert main(["fit", "-c", str(experiment), "--runs", str(runs), *words, *BRIEF]) == 0
    return Path(runs, Path(experiment).stem, "version_0", "checkpoints", "last.ckpt")


def drawn(deqlight, checkpoint, *words, out="out"):
    done = deqlight("sample", "--ckpt_path", checkpoint, "--device=cpu", f"--out={out}", *words)
    assert done.code == 0, done.err
    return np.load(Path(out, "samples.npy")), json.loads(Path(out, "samples.json").read_text()), done.out


def weighed(deqlight, checkpoint, *words, out="out.csv"):
    done = deqlight("likelihood", "--ckpt_path", checkpoint, "--device=cpu", f"--out={out}", *words)
    assert done.code == 0, done.err
    with Path(out).open() as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}, done.out


def flat(table):
    """What a table says, without the breaks of its lines."""
    return "".join(line.strip("│ ") for line in table.splitlines())


def told_in_a_line(done, *parts, code=2):
    lines = [line for line in done.err.splitlines() if not line.startswith(("last:", "best:"))]
    assert done.code == code, done.err
    assert len(lines) == 1 and "Traceback" not in done.err, done.err
    for part in parts:
        assert part in lines[0], lines[0]


def test_samples_are_written_with_a_picture_and_a_note(deqlight, points):
    done = deqlight("sample", "--ckpt_path", points, "--n=20", "--steps=4", "--solver=DDIM", "--seed=3")
    assert done.code == 0, done.err
    folder = points.parents[1] / "sample" / "version_0"
    assert {path.name for path in folder.iterdir()} == {"samples.npy", "samples.json", "samples.png"}
    assert (folder / "samples.png").read_bytes().startswith(b"\x89PNG")
    note = json.loads((folder / "samples.json").read_text())
    assert (note["n"], note["first"], note["seed"], note["nfe"], note["classes"]) == (20, 0, 3, 4, None)
    assert "DDIM" in note["sampler"] and note["checkpoint"] == str(points)
    assert np.load(folder / "samples.npy").shape == (20, 2)
    for part in ("20 of shape (2,)", "DDIM, 4 steps", "4 a sample"):
        assert part in done.out


def test_samples_are_those_of_the_sampler_by_hand(deqlight, points):
    found, *_ = drawn(deqlight, points, "--n=5", "--steps=4", "--solver=DDIM", "--seed=3")
    made = Sampler(DDIM(), 4).drawn(network(points), (2,), Key(3, ids=torch.arange(5)), 5)
    assert np.array_equal(found, made.x.detach().numpy())


def network(points):
    weights = torch.load(points, weights_only=True)["state_dict"]
    denoiser = Denoiser(DenoisingMLP(2, 16, 3), VP(0.1, 20.0, t_min=0.001))
    denoiser.load_state_dict({name.removeprefix("net."): value for name, value in weights.items() if "net." in name})
    return denoiser.eval()


@pytest.mark.parametrize("solver", ["DPMpp2M", "DDPM"])
def test_a_sample_depends_on_its_number_alone(deqlight, points, solver):
    whole, *_ = drawn(deqlight, points, "--n=30", f"--solver={solver}")
    parts, *_ = drawn(deqlight, points, "--n=30", "--batch_size=7", f"--solver={solver}")
    later, *_ = drawn(deqlight, points, "--n=5", "--first=20", f"--solver={solver}")
    other, *_ = drawn(deqlight, points, "--n=30", "--seed=1", f"--solver={solver}")
    assert np.allclose(whole, parts, rtol=FLOAT32, atol=FLOAT32)
    assert np.allclose(whole[20:25], later, rtol=FLOAT32, atol=FLOAT32) and not np.allclose(whole, other)


def test_classes_in_turn(deqlight, digits):
    images, note, _ = drawn(deqlight, digits, "--n=12", "--steps=2")
    assert images.shape == (12, 1, 8, 8) and note["classes"] == list(range(10))
    threes, note, _ = drawn(deqlight, digits, "--n=12", "--steps=2", "--classes=3,-1")
    assert note["classes"] == [3, -1] and np.allclose(threes[3], drawn(deqlight, digits, "--first=3", "--n=1",
                                                      "--steps=2", "--classes=3,-1")[0][0], atol=FLOAT32)  # fmt: skip
    assert Path("out/samples.png").is_file()


def test_guidance_is_heeded_and_told(deqlight, digits):
    words = ("--n=3", "--steps=2", "--classes=7")
    plain, *_ = drawn(deqlight, digits, *words)
    strong, note, said = drawn(deqlight, digits, *words, "--guidance=ClassifierFree", "--guidance.scale=4")
    assert not np.allclose(plain, strong) and "ClassifierFree(scale=4.0)" in note["sampler"]
    assert "guidance=ClassifierFree(scale=4.0)" in flat(said)


@pytest.mark.parametrize("which", ["points", "digits"])
def test_the_power_of_the_noise_is_measured_where_it_is_needed(deqlight, request, which):
    checkpoint = request.getfixturevalue(which)
    words = ("--n=6", "--steps=3", "--solver=AnalyticDPM", "--solver.eta=0.5")
    whole, note, said = drawn(deqlight, checkpoint, *words)
    parts, *_ = drawn(deqlight, checkpoint, *words, "--batch_size=2")
    count = "1,000"
    assert f"measured on {count} samples of the training part" in said and "eta=0.5" in said
    assert note["noise_power"] == f"measured on {count.replace(',', '')} samples"
    assert np.isfinite(whole).all() and np.allclose(whole, parts, rtol=FLOAT32, atol=FLOAT32)


def test_the_power_is_that_of_all_samples_with_noise_of_each():
    """600 samples, in three parts: as measured at once, under the key of the samples."""
    torch.manual_seed(0)
    denoiser = Denoiser(DenoisingMLP(2, 16), VP(t_min=0.01))
    for parameter in denoiser.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    sampler = Sampler(AnalyticDPM(eta=0.5), 4, UniformLogSNR(to_zero=True))
    task = Generate(denoiser, sampler, torch.optim.Adam, scale=2.0).eval()
    data = Batch(torch.randn(600, 2), torch.zeros(600), torch.randperm(600))
    found = SimpleNamespace(task=task, device="cpu", settings={"seed": 5}, samples=lambda part, count: data)
    assert measure(found) == 600 and measure(found) == 0
    levels = sorted(sampler.levels(denoiser.schedule))[1:]
    with keyed(Key(5, ids=data.ids)):
        known = noise_power(denoiser.eps, data.inputs / 2, levels)
    power = task.sampler.solver.power
    assert power.rhos == known.rhos == tuple(levels) and power.powers == pytest.approx(known.powers, rel=1e-5)
    assert task.sampler.solver.eta == 0.5


def test_a_power_that_is_given_is_not_measured(deqlight, points):
    power = ("--solver.power=NoisePower", "--solver.power.rhos=[0.1,10]", "--solver.power.powers=[0.1,0.9]")
    _, note, said = drawn(deqlight, points, "--n=2", "--solver=AnalyticDPM", *power)
    assert "measured" not in said and "noise_power" not in note


MISTAKES = {
    "--solver=DDIMM": ("model.sampler.solver: there is no solver 'DDIMM'; did you mean DDIM?",),
    "--solver=DDIM --solver.etaa=1": ("model.sampler.solver.etaa", "did you mean eta?"),
    "--solver=DDIM --solver.eta=3": ("DDIM got eta=3",),
    "--solver=Verlet": ("Verlet, which integrates Partitioned",),
    "--solver=AB3": ("steps of one length", "variable='t'"),
    "--steps=0": ("steps=0",),
    "--steps=x": ("model.sampler.steps is 'x'; expected int",),
    "--stepps=3": ("there is no option 'stepps'; did you mean steps?",),
    "--variable=x": ("model.sampler.variable is 'x'; accepted: rho, t",),
    "--grid=Karas": ("did you mean Karras?",),
    "--guidance=ClassifierFree": ("which would heed nothing",),
    "--n=0": ("--n is 0",),
    "--batch_size=0": ("--batch_size 0",),
    "--first=-1": ("--first -1",),
    "--n=x": ("n is 'x'; expected int",),
    "--classes=1": ("told of no classes",),
    "--device=tpu9": ("--device tpu9 cannot be used",),
    "--model.net.net.hidden=8": ("is of another network", "size mismatch"),
}


@pytest.mark.parametrize("words", MISTAKES)
def test_mistakes_of_a_sample(deqlight, points, words):
    told_in_a_line(deqlight("sample", "--ckpt_path", points, "--n=2", *words.split()), *MISTAKES[words])


WEIGHED = {
    "--solver=DDIM": ("log_likelihood got DDIM, which integrates Denoising", "Dopri5"),
    "--solver=Heunn": ("solver: there is no solver 'Heunn'; did you mean Heun?",),
    "--solver=RK4": ("RK4", "Constant"),
    "--steps=3": ("there is no option 'steps'",),
    "--part=all": ("--part is 'all'; accepted: test, train, val",),
    "--width=-1": ("--width -1",),
    "--n=-1": ("--n is -1",),
    "--trace=Hutchinson --trace.draws=0": ("draws=0",),
    "--controller=PIX": ("controller: there is no controller 'PIX'; did you mean PID?",),
}


@pytest.mark.parametrize("words", WEIGHED)
def test_mistakes_of_a_likelihood(deqlight, points, words):
    told_in_a_line(deqlight("likelihood", "--ckpt_path", points, "--n=2", *words.split()), *WEIGHED[words])


@pytest.mark.parametrize("classes", ["10", "-2", "a", "3,,4"])
def test_classes_that_are_none(deqlight, digits, classes):
    told_in_a_line(deqlight("sample", "--ckpt_path", digits, f"--classes={classes}"), "numbers from 0 to 9")


@pytest.mark.parametrize("command", ["sample", "likelihood"])
def test_what_cannot_be_sampled_from(deqlight, tmp_path, command, points, trained):
    told_in_a_line(deqlight(command), "needs a trained network")
    told_in_a_line(deqlight(command, "-c", VP_POINTS), "needs a trained network")
    told_in_a_line(deqlight(command, "--ckpt_path=nothing.ckpt"), "there is no checkpoint nothing.ckpt")
    told_in_a_line(deqlight(command, "--ckpt_path=last"), "there is no last checkpoint")
    told_in_a_line(deqlight(command, "--ckpt_path", trained), "the task is Classify, which generates nothing")
    (tmp_path / "file").write_text("")
    told_in_a_line(deqlight(command, "--ckpt_path", points, "--n=2", "--out=file/below"), "--out file/below cannot be")


@pytest.mark.parametrize("command", ["sample", "likelihood"])
def test_ctrl_c_has_its_code(deqlight, points, monkeypatch, command):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(Denoiser, "eps", interrupt)
    told_in_a_line(deqlight(command, "--ckpt_path", points, "--n=2"), "interrupted", code=130)


@pytest.mark.parametrize("command", ["sample", "likelihood"])
@pytest.mark.parametrize("flag", ["--help", "--help-all"])
def test_there_is_a_page_for_each(deqlight, command, flag):
    done = deqlight(command, flag)
    assert done.code == 0 and done.out.startswith(f"usage: deqlight {command}") and len(done.out.splitlines()) < 45
    assert f"\n  {command} " in deqlight("--help").out


def test_the_configuration_is_printed(deqlight, points):
    done = deqlight("sample", "--ckpt_path", points, "--steps=7", "--print_config")
    assert done.code == 0 and "steps: 7" in done.out


def test_likelihoods_are_those_by_hand(deqlight, points):
    found, said = weighed(deqlight, points)
    data = Points(EightGaussians(), train=2048, val=64, test=40, data_seed=0)
    data.setup("test")
    ids = data._parts["test"]
    with torch.no_grad():
        logs = log_likelihood(network(points).eps, VP(0.1, 20.0, t_min=0.001), data._dataset.inputs[ids])
    assert np.array_equal(found["id"], ids.numpy())
    assert np.allclose(found["log_density"], logs.numpy(), rtol=1e-6)
    assert np.allclose(found["bits_per_dim"], bits_per_dim(logs, 2, 1.0).numpy(), rtol=1e-6)
    assert "40 of the test part, 2 dimensions" in said and repr(Dopri5()) in said and repr(Exact()) in said


def test_a_likelihood_depends_on_its_sample_alone(deqlight, points):
    whole, _ = weighed(deqlight, points, "--width=0.1")
    parts, _ = weighed(deqlight, points, "--width=0.1", "--batch_size=7", "--n=20")
    assert np.allclose(whole["log_density"][:20], parts["log_density"], atol=1e-3)  # float32, tolerances of 1e-5
    assert np.array_equal(whole["id"][:20], parts["id"])
    none, _ = weighed(deqlight, points)
    assert not np.allclose(whole["log_density"], none["log_density"], atol=1e-3)  # without noise within a level


def test_its_own_solver_and_trace_are_heeded(deqlight, points):
    fine, _ = weighed(deqlight, points, "--n=8")
    steps = ("--solver=RK4", "--controller=Constant", "--controller.steps=400")
    fixed, said = weighed(deqlight, points, "--n=8", *steps)
    rough, _ = weighed(deqlight, points, "--n=8", *steps[:2], "--controller.steps=4")
    assert "RK4" in said and "Constant" in said
    assert np.allclose(fine["log_density"], fixed["log_density"], atol=1e-2)
    assert not np.allclose(fine["log_density"], rough["log_density"], atol=1e-2)
    signs, said = weighed(deqlight, points, "--n=8", "--trace=Hutchinson", "--trace.draws=2")
    assert "Hutchinson" in said and not np.allclose(signs["log_density"], fine["log_density"], atol=1e-3)


def test_levels_of_images_and_their_classes(deqlight, digits):
    words = ("--n=4", "--width=0.0625", "--solver=Heun", "--controller=Constant", "--controller.steps=4")
    told, said = weighed(deqlight, digits, *words)
    alone, _ = weighed(deqlight, digits, *words, "--unconditional=true")
    assert "levels 0.0625 apart" in said and "64 dimensions" in said and "Hutchinson" in said
    assert np.allclose(told["bits_per_dim"], -told["log_density"] / 64 / np.log(2) + 4)
    assert not np.allclose(told["log_density"], alone["log_density"])


EXACT = '''
import torch
from torch import nn
from deqlight.plugin import impl


class Exact(nn.Module):
    """The noise in a normal distribution of the plane, of mean 1 and variance 4, shown on VP."""

    def __init__(self):
        super().__init__()
        self.blank = nn.Parameter(torch.zeros(()))

    def forward(self, t, x):
        t = torch.as_tensor(t, dtype=x.dtype)
        t = t.reshape(-1, 1) if t.dim() else t
        log_alpha = -0.25 * t**2 * 19.9 - 0.05 * t
        alpha, square = log_alpha.exp(), -torch.expm1(2 * log_alpha)
        return square.sqrt() * (x - alpha) / (4 * alpha**2 + square) + 0 * self.blank


@impl
def deqlight_fields():
    return [Exact]
'''


def test_a_known_density_is_found(deqlight, tmp_path):
    """A network that knows: what the flow makes of N(0, 1), its density, however far out the data are; samples, too."""
    (tmp_path / "exact.py").write_text(EXACT)
    net = ("--plugin=exact.py", "--model.net.net=Exact")
    done = deqlight("fit", "-c", VP_POINTS, *net, *SMALL[1:], *BRIEF, "--trainer.max_epochs=1")
    assert done.code == 0, done.err
    found, _ = weighed(deqlight, "last", "--plugin=exact.py")
    data = Points(EightGaussians(), train=2048, val=64, test=40)
    data.setup("test")
    x, schedule = data._dataset.inputs[data._parts["test"]].double(), VP(0.1, 20.0, t_min=0.001)
    high, low = schedule.rho_ends
    growth = ((4 + high**2) / (4 + low**2)) ** 0.5 * schedule.scale(high)  # the flow of this distribution is affine
    noise = schedule.scale(high) + growth * (x / schedule.scale(low) - 1)
    known = -0.5 * noise.square().sum(1) - np.log(2 * np.pi) + 2 * np.log(growth / schedule.scale(low))
    assert np.allclose(found["log_density"], known.numpy(), atol=1e-3)  # float32, tolerances of 1e-5
    scaled, _ = weighed(deqlight, "last", "--plugin=exact.py", "--model.scale=0.5", "--model.shift=3")
    noise = schedule.scale(high) + growth * ((x - 3) / 0.5 / schedule.scale(low) - 1)
    known = -0.5 * noise.square().sum(1) - np.log(2 * np.pi) + 2 * np.log(growth / schedule.scale(low) / 0.5)
    assert np.allclose(scaled["log_density"], known.numpy(), rtol=1e-4, atol=1e-3)
    samples, *_ = drawn(deqlight, "last", "--plugin=exact.py", "--n=2000", "--steps=50")
    assert np.abs(samples.mean(0) - 1).max() < 5 * 2 / 2000**0.5
    assert np.abs(samples.std(0) - 2).max() < 5 * 2 / 4000**0.5


def test_a_picture_without_matplotlib_is_said_to_be_missing(deqlight, points, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    samples, _, said = drawn(deqlight, points, "--n=3")
    assert len(samples) == 3 and "deqlight[plots]" in flat(said) and not Path("out/samples.png").exists()
