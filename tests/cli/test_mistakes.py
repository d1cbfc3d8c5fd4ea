"""Every mistake on the command line or in a file: one line, the key, what is accepted, exit code 2."""

import copy
from pathlib import Path

import pytest
import yaml

SHIPPED = Path(__file__).parents[2] / "configs" / "experiment" / "resnet_digits.yaml"

LINES = {
    "--model.net.solver Heunn": (
        "model.net.solver: there is no solver 'Heunn'; did you mean Heun? accepted: AB1, AB2",
        "Verlet",
    ),
    "--model.net.solver heun": ("did you mean Heun?",),
    "--model.net.solver LinearTwoStep --model.net.solver.kk 0.1": ("model.net.solver.kk", "did you mean k?"),
    "--model.net.solver LinearTwoStep --model.net.solver.k abc": ("model.net.solver.k is 'abc'; expected float",),
    "--model.net.solver": ("--model.net.solver needs a value",),
    "--model.net.controller PIX": ("there is no controller 'PIX'; did you mean PID?", "Constant"),
    "--model.net.controller PID --model.net.controller.rtl 1": ("model.net.controller.rtl", "did you mean rtol?"),
    "--model.net.controller PID --model.net.controller.rtol 1": ("model.net.controller.atol is required by PID",),
    "--model.net.gradient Reversibel": ("there is no gradient 'Reversibel'; did you mean Reversible?",),
    "--model.net DepthNett": ("there is no network or part 'DepthNett'; did you mean DepthNet?",),
    "--model Classifi": ("there is no task 'Classifi'; did you mean Classify?",),
    "--model.optimizer AdamX": ("model.optimizer: there is no optimizer 'AdamX'; did you mean Adam", "SGD"),
    "--model.optimizer.lrr 3": ("model.optimizer.lrr: AdamW has no option 'lrr'; did you mean lr?",),
    "--model.scheduler CosineAnnealing": ("there is no schedule", "did you mean CosineAnnealingLR?"),
    "--data Digit": ("data: there is no data module 'Digit'; did you mean Digits?",),
    "--data.batch 3": ("data.batch: Digits has no option 'batch'; did you mean batch_size?",),
    "--data.batch_size x": ("data.batch_size is 'x'; expected int",),
    "--data.batch_size 0": ("Digits: batch_size is 0",),
    "--trainer.max_epoch 3": ("Trainer has no option 'max_epoch'; did you mean max_epochs?",),
    "--trainer.max_epochs many": ("trainer.max_epochs is 'many'; expected int",),
    "--trainer.callbacks+=EarlyStoping": ("trainer.callbacks[0]: there is no callback", "did you mean EarlyStopping?"),
    "--trainer.callbacks+=EarlyStopping --trainer.callbacks.monitro=x": (
        "trainer.callbacks[0].monitro: EarlyStopping has no option 'monitro'; did you mean monitor?",
    ),
    "--model.net.regularizers Dropout": (
        "model.net.regularizers is 'Dropout'; it is a list: write [Dropout], or on the command line",
        "--model.net.regularizers+=Dropout",
    ),
    "--best.monitr x": ("best.monitr: Best has no option 'monitr'; did you mean monitor?",),
    "--best.mode most": ("best.mode",),
    "--seed_everything seven": ("seed_everything is 'seven'; expected bool or int",),
    "--bogus 3": ("there is no option 'bogus'",),
    "--model.net.gradient Reversible": ("Reversible got the solver Euler", "Leapfrog"),
    "--last.every_n_step 3": ("last.every_n_step: Last has no option 'every_n_step'; did you mean every_n_steps?",),
    "--last.every_n_steps 0": ("every_n_steps=0",),
    "--timeout -1": ("--timeout is -1",),
    "--timeout soon": ("timeout is 'soon'; expected float",),
    "--timeout 60 --trainer.accelerator cpu": ("--timeout 60 is for several processes", "--trainer.strategy ddp"),
    "--ckpt_path last": ("there is no last checkpoint",),
    "--ckpt_path nowhere.ckpt": ("there is no checkpoint nowhere.ckpt",),
    "--ckpt_path https://example.org/x.ckpt": ("lies elsewhere",),
}


def told_in_a_line(done, *parts):
    assert done.code == 2, done.err
    assert done.out == ""
    line = [line for line in done.err.splitlines() if line.startswith("error:")]
    assert len(line) == 1
    assert "Traceback" not in done.err
    assert len(line[0]) < 1000  # the list of all solvers, the longest that is said whole
    for part in parts:
        assert part in line[0], line[0]


@pytest.mark.parametrize("words", LINES)
def test_on_the_line(deqlight, words):
    told_in_a_line(deqlight("fit", "-c", "resnet_digits", *words.split()), *LINES[words])


def net(config):
    return config["model"]["init_args"]["net"]["init_args"]


def stage(config):
    return net(config)["stages"][0]["init_args"]


FILES = {
    "a misspelt solver": (lambda c: net(c).update(solver="Heunn"), ("model.net.solver: there is no solver 'Heunn'",)),
    "a solver without class_path": (
        lambda c: net(c).update(solver={"name": "Heun"}),
        ("model.net.solver does not say",),
    ),
    "no solver": (lambda c: net(c).pop("solver"), ("model.net.solver is required by DepthNet; choose a solver: AB1",)),
    "an option of the net": (
        lambda c: net(c).update(solvr="Heun"),
        ("DepthNet has no option 'solvr'; did you mean solver?",),
    ),
    "an option in a list": (lambda c: stage(c).update(deptth=3), ("model.net.stages[0].deptth", "did you mean depth?")),
    "a value in a list": (lambda c: stage(c).update(depth="q"), ("model.net.stages[0].depth is 'q'; expected int",)),
    "a misspelt stage": (lambda c: net(c)["stages"].append("LayeredStag"), ("model.net.stages[2]", "LayeredStage?")),
    "a misspelt block": (lambda c: stage(c).update(block="PreAct"), ("there is no network or part 'PreAct'",)),
    "an option of the task": (
        lambda c: c["model"]["init_args"].update(foo=1),
        ("model.foo: Classify has no option 'foo'",),
    ),
    "a misspelt section": (lambda c: c.update(modek=3), ("there is no option 'modek'; did you mean model?",)),
    "an option of the trainer": (lambda c: c["trainer"].update(max_epoch=3), ("did you mean max_epochs?",)),
    "no data": (lambda c: c.pop("data"), ("data missing",)),
    "wrong channels": (lambda c: net(c)["stem"]["init_args"].update(in_channels=3), ("in_channels",)),
}


@pytest.mark.parametrize("name", FILES)
def test_in_a_file(deqlight, tmp_path, name):
    change, parts = FILES[name]
    config = copy.deepcopy(yaml.safe_load(SHIPPED.read_text()))
    change(config)
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config))
    told_in_a_line(deqlight("fit", "-c", "mine.yaml"), *parts)


def bomb():
    lines = [f"a0: &a0 [{', '.join('x' * 10)}]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 13)]
    return "\n".join(lines)


TEXTS = {
    "no yaml": ("a: [1\nb: 2", "is no YAML"),
    "a list": ("- 1\n- 2", "holds list"),
    "empty": ("", "holds NoneType"),
    "a python tag": ('x: !!python/object/apply:os.system ["touch here"]', "is no YAML"),
    "an alias bomb": (bomb(), "aliases"),
    "a thousand brackets": ("a: " + "[" * 1000 + "]" * 1000, "nested too deeply"),
    "a megabyte": ("# " + "x" * 1_000_001, "bytes"),
}


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.timeout(20)
def test_what_is_no_config(deqlight, tmp_path, name):
    text, part = TEXTS[name]
    (tmp_path / "bad.yaml").write_text(text)
    told_in_a_line(deqlight("fit", "-c", "bad.yaml"), "bad.yaml", part)
    assert not (tmp_path / "here").exists()


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ("resnet_digit", "did you mean resnet_digits?"),
        ("resnet_digits.yaml", "did you mean -c resnet_digits?"),
        ("some/folder/mine.yaml", "there is no config file some/folder/mine.yaml"),
    ],
)
def test_a_config_that_is_not_there(deqlight, given, part):
    told_in_a_line(deqlight("fit", "-c", given), part)


def test_nothing_to_run(deqlight):
    told_in_a_line(deqlight("fit"), "model and data missing", "-c NAME")


def test_a_run_folder_that_cannot_be_made(deqlight, tmp_path):
    (tmp_path / "runs").write_text("a file")
    told_in_a_line(deqlight("fit", "-c", "resnet_digits"), "no run folder can be made", "--runs")
