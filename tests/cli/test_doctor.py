"""`deqlight doctor`: what is right, what is noted, and what is broken, each with its remedy."""

import errno
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from deqlight.cli import doctor_compile, doctor_machine, doctor_network
from deqlight.cli.doctor_finding import BROKEN, NOTE, OK

FAST = 20  # seconds on a crowded machine; 5 on an idle one


def found(findings):
    return {finding.what: finding for finding in findings}


def test_a_sound_machine(deqlight):
    done = deqlight("doctor", "--compile", "false")
    assert done.code == 0, done.out
    for part in ("torch", "lightning", "gloo", "host name", "run folder", "temporary folder", "builtin", "nothing is"):
        assert part in done.out
    assert "torch.compile" not in done.out


@pytest.mark.slow
def test_it_is_fast():
    words = [sys.executable, "-m", "deqlight", "doctor", "--compile=false"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=FAST, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_broken_is_told_and_is_the_exit_code(deqlight, monkeypatch, tmp_path):
    monkeypatch.setenv("MASTER_PORT", "many")
    monkeypatch.setenv("SLURM_JWT", "do not tell")
    (tmp_path / "broken.py").write_text("import surely_not_installed")
    done = deqlight("doctor", "--compile=false", "--plugin", "broken.py")
    assert done.code == 1
    assert "is no port" in done.out and "surely_not_installed" in done.out and "2 broken" in done.out
    assert "do not tell" not in done.out


def test_an_unknown_option(deqlight):
    done = deqlight("doctor", "--run", "x")
    assert (done.code, "did you mean --runs?" in done.err) == (2, True)


@pytest.mark.parametrize(
    ("environment", "what", "state"),
    [
        ({"MASTER_ADDR": "no.such.host.invalid"}, "MASTER_ADDR", BROKEN),
        ({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}, "MASTER_ADDR", OK),
        ({"MASTER_PORT": "70000"}, "MASTER_PORT", BROKEN),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK", BROKEN),
        ({"RANK": "1", "WORLD_SIZE": "2"}, "RANK", OK),
        ({"GLOO_SOCKET_IFNAME": "nosuch0"}, "GLOO_SOCKET_IFNAME", BROKEN),
        ({"GLOO_SOCKET_IFNAME": "lo"}, "GLOO_SOCKET_IFNAME", OK),
        ({"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}, "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", NOTE),
    ],
    ids=["lost", "here", "port", "rank", "last-rank", "interface", "loopback", "unsafe"],
)
def test_variables(monkeypatch, environment, what, state):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    finding = found(doctor_network.environment())[what]
    assert finding.state == state and bool(finding.remedy) == (state != OK)


@pytest.mark.parametrize(
    ("addresses", "environment", "state"),
    [
        (["10.0.0.3"], {}, OK),
        (["127.0.0.1", "::1"], {}, NOTE),
        (["127.0.1.1"], {"SLURM_NNODES": "2"}, BROKEN),
        (["127.0.1.1"], {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}, BROKEN),
        (["127.0.1.1"], {"SLURM_NNODES": "2", "GLOO_SOCKET_IFNAME": "eth0"}, OK),
        ([], {}, NOTE),
    ],
    ids=["outside", "loopback", "slurm", "torchrun", "chosen", "none"],
)
def test_what_the_machines_name_resolves_to(monkeypatch, addresses, environment, state):
    for name in ("SLURM_NNODES", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GLOO_SOCKET_IFNAME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def resolve(*_):
        if not addresses:
            raise socket.gaierror
        return [(None, None, None, "", (address, 0)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    finding = doctor_network._resolution("node1", {"ib0": "10.0.0.3"})
    assert finding.state == state
    assert state == OK or "GLOO_SOCKET_IFNAME=ib0" in finding.remedy


def test_gloo_that_cannot_start_is_broken(monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("Unable to resolve hostname to a (local) address\nlong story")

    monkeypatch.setattr(torch.distributed, "init_process_group", refuse)
    finding = doctor_network._gloo()
    assert finding.state == BROKEN and finding.found.endswith("a (local) address")


def test_folders(monkeypatch, tmp_path):
    sound = found(doctor_machine.folders(tmp_path / "not" / "there" / "yet"))
    assert sound["run folder"].state == sound["temporary folder"].state == OK and "file systems" not in sound

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    finding = found(doctor_machine.folders(tmp_path))["run folder"]
    assert finding.state == BROKEN and "No space left" in finding.found and "--runs" in finding.remedy


def test_a_temporary_folder_elsewhere_is_told(monkeypatch, tmp_path):
    real = Path.stat
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(other))
    monkeypatch.setattr(
        Path,
        "stat",
        lambda self, **k: SimpleNamespace(st_dev=-1, st_mode=real(self).st_mode) if self == other else real(self, **k),
    )
    assert "another file system" in found(doctor_machine.folders(tmp_path / "runs"))["file systems"].found


def test_packages_that_are_missing_or_broken(monkeypatch, tmp_path):
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(doctor_machine, "EXTRAS", {"surely_not": ("surely-not", "plots", "figures")})
    packages = found(doctor_machine.packages())
    assert packages["torchvision"].state == BROKEN and "nms does not exist" in packages["torchvision"].found
    assert "deqlight[plots]" in packages["surely-not"].remedy


def test_more_threads_than_cores_are_noted(monkeypatch):
    monkeypatch.setattr(doctor_machine, "_usable_cores", lambda: 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    finding = found(doctor_machine.devices())["CPU"]
    assert finding.state == NOTE and "OMP_NUM_THREADS=1" in finding.remedy


def test_torch_compile_that_fails_is_noted(monkeypatch):
    def fail(_):
        raise RuntimeError("InvalidCxxCompiler")

    monkeypatch.setattr(torch, "compile", fail)
    (finding,) = doctor_compile.compiles()
    assert finding.state == NOTE and "InvalidCxxCompiler" in finding.found


@pytest.mark.slow
def test_graph_breaks_of_an_experiment_are_told(deqlight):
    done = deqlight("doctor", "--compile=false", "-c", "resnet_digits")
    assert done.code == 0, done.out
    assert "1 graphs, 0 breaks" in done.out


@pytest.mark.slow
def test_torch_compile_works_here():
    (finding,) = doctor_compile.compiles()
    assert finding.state == OK
