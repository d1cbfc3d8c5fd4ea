"""A small training, shared by the tests of tasks and callbacks."""

import os
import signal
from functools import partial

import lightning as L
import torch
from torch import nn

from deqlight.data import Digits
from deqlight.tasks import Classify


class At(L.Callback):
    """Do something after a given optimiser step."""

    def __init__(self, step, act):
        self.step, self.act = step, act

    def on_train_batch_end(self, trainer, module, *rest):
        if trainer.global_step == self.step:
            self.act(module)


def interrupt(module):
    os.kill(os.getpid(), signal.SIGINT)


def terminate(module):
    os.kill(os.getpid(), signal.SIGTERM)


def net():
    """Everything that makes a resumption hard: batch statistics, and random numbers from the global generator."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(144, 10)
    )


def task(**kwargs):
    L.seed_everything(0, verbose=False)
    schedule = partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=3)
    return Classify(net(), 10, partial(torch.optim.AdamW, lr=1e-2), **{"scheduler": schedule, **kwargs})


def trainer(folder, *callbacks, **kwargs):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    settings = {"max_epochs": 3, "accelerator": "cpu", "default_root_dir": folder, **quiet, **kwargs}
    return L.Trainer(callbacks=list(callbacks), **settings)


def digits():
    return Digits(batch_size=128, shift=1)


def weights(module):
    return {name: value.clone() for name, value in module.state_dict().items()}
