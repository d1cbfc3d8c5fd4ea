"""Two machines, which are two network namespaces joined by a cable: train, lose one, go on."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from processes import PATIENCE, finish, start

SCRIPT = Path(__file__).parents[2] / "scripts" / "torchrun_node.sh"
EPOCHS = 40
NODES = ("--trainer.accelerator=cpu", "--trainer.devices=1", "--trainer.num_nodes=2", "--trainer.strategy=ddp")
SMALL = ("--data.train=256", "--data.val=64", "--data.test=32", f"--trainer.max_epochs={EPOCHS}")
SOON = 20  # seconds; on an idle machine half a second


def ip(*words):
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def machines():
    """The names of both, and the first one's address."""
    if os.geteuid() or not shutil.which("ip"):
        pytest.skip("network namespaces need root, and ip of iproute2")
    tag = f"dq{os.getpid() % 100000}"
    names, cables = [f"{tag}a", f"{tag}b"], [f"v{tag}a", f"v{tag}b"]
    try:
        made = [ip("netns", "add", name) for name in names]
        if any(done.returncode for done in made):
            pytest.skip(f"no network namespaces here: {made[0].stderr.strip() or made[1].stderr.strip()}")
        assert ip("link", "add", cables[0], "type", "veth", "peer", "name", cables[1]).returncode == 0
        for number, (name, cable) in enumerate(zip(names, cables, strict=True), 1):
            assert ip("link", "set", cable, "netns", name).returncode == 0
            assert ip("-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", cable).returncode == 0
            assert all(ip("-n", name, "link", "set", device, "up").returncode == 0 for device in ("lo", cable))
        yield list(zip(names, cables, strict=True))
    finally:
        for name in names:
            ip("netns", "del", name)


def begin(machines, folder, *words):
    """One process on each machine."""
    ranks = []
    for rank, (name, cable) in enumerate(machines):
        told = {"MASTER_ADDR": "10.77.0.1", "MASTER_PORT": "29577", "NODE_RANK": str(rank), "GLOO_SOCKET_IFNAME": cable}
        inside, command = ("ip", "netns", "exec", name), ("fit", "-c", "anode_reflection", *NODES, *SMALL, *words)
        ranks.append(start(folder, *command, prefix=inside, **told))
    return ranks


def wait_for(process, beginning):
    deadline = time.monotonic() + PATIENCE
    for line in process.stdout:
        if line.startswith(beginning):
            return
        assert time.monotonic() < deadline
    raise AssertionError(process.stderr.read())


def test_a_machine_is_lost_and_the_training_goes_on(machines, tmp_path):
    ranks = begin(machines, tmp_path)
    try:
        wait_for(ranks[0], "epoch 3/")
        ranks[1].send_signal(signal.SIGKILL)
        lost = time.monotonic()
        code, said = finish(ranks[0])
        assert time.monotonic() - lost < SOON and code == 75, said
        assert "another rank has ended" in said
    finally:
        finish(ranks[1])
    last = tmp_path / "runs/anode_reflection/version_0/checkpoints/last.ckpt"
    reached = torch.load(last, weights_only=True)["epoch"]
    assert reached >= 2
    ranks = begin(machines, tmp_path, f"--ckpt_path={last}")
    ended = [finish(process) for process in ranks]
    assert [code for code, _ in ended] == [0, 0], ended
    final = torch.load(tmp_path / "runs/anode_reflection/version_1/checkpoints/last.ckpt", weights_only=True)
    assert final["epoch"] == EPOCHS - 1 and len(final["rng"]) == 2


def worker_of(name):
    """The process on a machine that trains, which torchrun's agent there has started."""
    for pid in ip("netns", "pids", name).stdout.split():
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if b"deqlight" in words and b"torch.distributed.run" not in words:
            return int(pid)
    raise AssertionError("nobody trains there")


@pytest.mark.slow
def test_torchrun_goes_on_by_itself_when_a_machine_loses_its_process(machines, tmp_path):
    """One agent on each machine, by the script of the recipe; both start their process again."""
    own = {"RENDEZVOUS": "10.77.0.1:29578", "RUN": "netns", "RESTARTS": "2", "PYTHON": sys.executable}
    short = ("--trainer.accelerator=cpu", *SMALL, "--ckpt_path=auto", "--last.every_n_steps=2", "--timeout=60")
    agents = []
    for number, (name, cable) in enumerate(machines, 1):
        told = {**os.environ, **own, "ADDRESS": f"10.77.0.{number}", "GLOO_SOCKET_IFNAME": cable}
        told |= {"IS_HOST": str(int(number == 1)), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(SCRIPT.parents[1])}
        line = ["ip", "netns", "exec", name, str(SCRIPT), "-c", "anode_reflection", "-c", "many_nodes", *short]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        agents.append(subprocess.Popen(line, cwd=tmp_path, env=told, **pipes))
    try:
        wait_for(agents[0], "epoch 3/")
        os.kill(worker_of(machines[1][0]), signal.SIGKILL)
        ended = [finish(agent) for agent in agents]
    finally:
        for agent in agents:
            agent.kill()
    assert [code for code, _ in ended] == [0, 0], ended
    assert "Restored all states" in ended[0][1] or "last: " in ended[0][1], ended
    final = torch.load(tmp_path / "runs/anode_reflection/version_1/checkpoints/last.ckpt", weights_only=True)
    assert final["epoch"] == EPOCHS - 1 and len(final["rng"]) == 2
