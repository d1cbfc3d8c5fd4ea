"""Features of a trained classifier, to compare images by."""

from functools import partial

import pytest
import torch
import training

from deqlight.errors import CheckpointError
from deqlight.fields import GroupNorm2d, PreActivation
from deqlight.metrics import DepthFeatures, FrechetDistance
from deqlight.nets import ConvStem, DepthNet, LayeredStage, PoolHead
from deqlight.solvers import Euler
from deqlight.tasks import Classify


def net(channels=8):
    block = partial(PreActivation, norm=GroupNorm2d)
    stages = [LayeredStage(block, channels=channels, depth=2)]
    return DepthNet(ConvStem(1, channels), stages, PoolHead(channels, 10, norm=GroupNorm2d), solver=Euler())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A network that has seen digits for two epochs, the checkpoint of its task, and the digits."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("classifier")
    task, data = Classify(net(), 10, partial(torch.optim.AdamW, lr=1e-2)), training.digits()
    trainer = training.trainer(folder, max_epochs=2)
    trainer.fit(task, datamodule=data)
    trainer.save_checkpoint(folder / "task.ckpt")
    return task.net.eval(), folder / "task.ckpt", torch.cat([batch.inputs for batch in data.val_dataloader()])


def test_they_are_those_of_the_checkpoint(trained):
    own, path, images = trained
    with torch.no_grad():
        found = DepthFeatures(net(), str(path)).eval()(images)
        assert torch.equal(found, own.features(images).mean((2, 3)))
        assert found.shape == (len(images), 8)
        assert not torch.allclose(DepthFeatures(net())(images), found)


def test_the_more_noise_the_farther_from_the_digits(trained):
    _, path, images = trained
    half, found = len(images) // 2, []
    metric, noise = FrechetDistance(8, DepthFeatures(net(), str(path))), images.std() * torch.randn_like(images)
    for much in (0.0, 1.0, 2.0):
        metric.reset()
        metric.update(images[:half], real=True)
        metric.update((images + much * noise)[half:], real=False)
        found.append(metric.compute().item())
    assert 4 * found[0] < 2 * found[1] < found[2], found


def test_another_network_or_no_checkpoint(trained, tmp_path):
    _, path, _ = trained
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    torch.save({"other": 1}, tmp_path / "other.ckpt")
    for file, channels, told in (
        (path, 16, "no weights of this network .*size mismatch"),
        (tmp_path / "text.ckpt", 8, "no weights of this network"),
        (tmp_path / "other.ckpt", 8, "no weights of this network"),
        (tmp_path / "missing.ckpt", 8, "there is no checkpoint"),
    ):
        with pytest.raises(CheckpointError, match=f"(?s)DepthFeatures.*{told}"):
            DepthFeatures(net(channels), str(file))
