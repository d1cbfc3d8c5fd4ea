"""The recipes for one machine and for many are run, as far as one machine can be two."""

import csv
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from processes import free_port

from deqlight.cli.experiments import TRAINERS, load
from deqlight.cli.start import prepare
from deqlight.plugin.builtin import deqlight_configs
from deqlight.plugin.manager import host

ROOT = Path(__file__).parents[2]
SCRIPTS, PAGE = ROOT / "scripts", ROOT / "docs" / "howto" / "many_nodes.md"
PATIENCE = 150  # seconds; two starts take 15 on an idle machine
SHORT = (
    *("--trainer.accelerator=cpu", "--trainer.limit_train_batches=3", "--trainer.limit_val_batches=1"),
    *("--trainer.max_epochs=1", "--trainer.num_sanity_val_steps=0"),
)
OVERLAYS = sorted(path for folder in deqlight_configs() for path in (folder / TRAINERS).glob("*.yaml"))


def together(folder, *processes):
    """Run commands beside each other, each with variables of its own; what each said."""
    sound = {name: value for name, value in os.environ.items() if not name.startswith(("DEQLIGHT_CHILD_", "SLURM_"))}
    common = {
        **sound,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), *sound.get("PYTHONPATH", "").split(os.pathsep)]),
    }
    started = [
        subprocess.Popen(
            words, cwd=folder, env={**common, **own}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for words, own in processes
    ]
    try:
        said = [process.communicate(timeout=PATIENCE)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0] * len(started), "\n".join(said)
    return said


def manifest(folder):
    (path,) = (folder / "runs" / "resnet_digits").iterdir()  # one folder, whatever has started the ranks
    return json.loads((path / "manifest.json").read_text())


@pytest.mark.parametrize("path", OVERLAYS, ids=lambda path: path.stem)
def test_a_trainer_is_laid_over_an_experiment_and_does_not_name_it(path):
    from deqlight.cli.line import read

    experiment = prepare(read(["fit", "-c", "resnet_digits", "-c", path.stem]), host())
    assert experiment.name == "resnet_digits" and experiment.paths[1] == path
    assert {*load(path)} == {"trainer"}
    assert f"-c {path.stem}" in path.read_text()


def test_two_agents_of_torchrun_train_one_network(tmp_path):
    port = free_port()
    own = {"NODES": "2", "PROCESSES": "1", "RENDEZVOUS": f"127.0.0.1:{port}", "RUN": str(port), "ADDRESS": "127.0.0.1"}
    words = [str(SCRIPTS / "torchrun_node.sh"), "-c", "resnet_digits", "-c", "many_nodes", *SHORT]
    node = (words, {**own, "PYTHON": sys.executable})
    together(tmp_path, node, node)
    found = manifest(tmp_path)
    assert (found["status"], found["world_size"], found["batch"]["effective"]) == ("finished", 2, 128)
    assert [rank["rank"] for rank in found["ranks"]] == [0, 1]


@pytest.mark.slow
def test_two_processes_of_one_machine_and_once_more(tmp_path):
    command = [sys.executable, "-m", "deqlight"]
    together(tmp_path, ([*command, "fit", "-c", "resnet_digits", "-c", "ddp_cpu", *SHORT], {}))
    assert manifest(tmp_path)["world_size"] == 2
    (said,) = together(tmp_path, ([*command, "reproduce", "runs/resnet_digits/version_0"], {}))
    assert said.count("same, bit for bit") == 2


@pytest.mark.slow
def test_the_pods_of_kubernetes_train_one_network(tmp_path):
    """Each with the variables that the operator sets, on this machine."""
    replicas = yaml.safe_load((SCRIPTS / "pytorchjob.yaml").read_text())["spec"]["pytorchReplicaSpecs"]
    assert replicas["Master"]["template"] == replicas["Worker"]["template"]
    (pod,) = replicas["Master"]["template"]["spec"]["containers"]
    args = ["resnet_digits" if word == "resnet_cifar10" else word for word in pod["args"] if word != "--runs=/runs"]
    command = [word.replace("exec python", f"exec {shlex.quote(sys.executable)}") for word in pod["command"]]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    together(tmp_path, *((command + args + [*SHORT], {**shared, "RANK": str(rank)}) for rank in range(2)))
    assert manifest(tmp_path)["world_size"] == 2


@pytest.mark.slow
def test_slurms_script_hands_its_numbers_on(tmp_path):
    """`srun` is played by a script that starts a process for each task, with the variables that SLURM sets."""
    (tmp_path / "bin").mkdir()
    srun = tmp_path / "bin" / "srun"
    srun.write_text(
        '#!/usr/bin/env bash\ncase "$*" in *doctor*) exec "$@";; esac\n'
        'for i in 0 1; do SLURM_PROCID=$i SLURM_NODEID=$i SLURM_LOCALID=0 "$@" & pids+=($!); done\n'
        'for p in "${pids[@]}"; do wait $p || exit 1; done\n'
    )
    srun.chmod(0o755)
    wrapper = tmp_path / "bin" / "python"
    wrapper.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    wrapper.chmod(0o755)
    slurm = {
        **{"SLURM_JOB_ID": "7", "SLURM_NNODES": "2", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "1"},
        **{"SLURM_NODELIST": "127.0.0.1", "SLURM_JOB_NAME": "deqlight", "SLURM_CPUS_PER_TASK": "1"},
        **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "GLOO_SOCKET_IFNAME": "lo"},
        "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}",
    }
    words = ["bash", str(SCRIPTS / "slurm_ddp.sbatch"), "-c", "resnet_digits", "-c", "many_nodes", *SHORT]
    together(tmp_path, (words, slurm))
    assert manifest(tmp_path)["world_size"] == 2
    assert "gloo" in (tmp_path / "slurm-7-doctor.out").read_text()


@pytest.mark.slow
def test_a_sweep_takes_every_pair_and_goes_on(tmp_path):
    pytest.importorskip("optuna", reason="the extra `sweep` is not installed")
    words = [sys.executable, str(SCRIPTS / "sweep.py"), "resnet_digits", "--solvers=Heun,Nonsense", "--out=sweep"]
    (said,) = together(tmp_path, ([*words, "--", *SHORT], {}))
    with (tmp_path / "sweep" / "sweep.csv").open() as file:
        best, failed = csv.DictReader(file)
    assert best["solver"] == "Heun" and 0 <= float(best["score"]) <= 1 and float(best["NFE forward"]) == 12
    assert (failed["state"], failed["solver"]) == ("FAIL", "Nonsense") and "Nonsense" in failed["reason"]
    (again,) = together(tmp_path, ([*words, "--", *SHORT], {}))
    assert again.splitlines()[-3:] == said.splitlines()[-3:]
    assert len([*(tmp_path / "sweep").glob("trial_*")]) == 1


def test_scripts_are_sound_and_the_page_tells_of_each():
    page = PAGE.read_text()
    for path in sorted(SCRIPTS.iterdir()):
        assert f"scripts/{path.name}" in page, path
        if path.suffix in (".sh", ".sbatch"):
            subprocess.run(["bash", "-n", str(path)], check=True)
    told = re.findall(r"-c (\w+)", "\n".join(path.read_text() for path in SCRIPTS.iterdir() if path.is_file()))
    assert {*told} - {"sh"} <= {path.stem for folder in deqlight_configs() for path in folder.glob("*/*.yaml")}
