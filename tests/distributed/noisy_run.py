"""One process of a training run that notes each sample's noise. `python noisy_run.py DEVICES BATCH STEPS KEY FOLDER`.

The network is y = W(1), Brownian motion itself, before a linear layer; `noise-RANK.json` in the folder has, for each
step, what each sample saw. With a checkpoint `last.ckpt` in the folder the run goes on from there; it leaves one.
"""

import json
import sys
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from deqlight import SDETerm, solve
from deqlight.brownian import Increments
from deqlight.data import Digits
from deqlight.solvers import Euler
from deqlight.tasks import Classify


class Walk(nn.Module):
    """Scores of Brownian motion in four dimensions, whatever the image."""

    def __init__(self, key):
        super().__init__()
        self.term = SDETerm(
            lambda t, y: 0 * y, lambda t, y: 1 + 0 * y, noise="additive", calculus="ito", brownian=Increments(key=key)
        )
        self.head = nn.Linear(4, 10)

    def forward(self, x):
        self.seen = solve(self.term, x.new_zeros(len(x), 4), [0.0, 0.5, 1.0], solver=Euler()).y1
        return self.head(self.seen)


class Notes(L.Callback):
    def __init__(self, folder):
        self.folder, self.steps = folder, {}

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        pairs = zip(batch.ids.tolist(), module.net.seen.tolist(), strict=True)
        self.steps[trainer.global_step] = {str(sample): path for sample, path in pairs}

    def on_train_end(self, trainer, module):
        (self.folder / f"noise-{trainer.global_rank}.json").write_text(json.dumps(self.steps))


def main(devices, batch, steps, key, folder):
    L.seed_everything(3, verbose=False)
    task = Classify(Walk(key), 10, lambda parameters: torch.optim.SGD(parameters, lr=0.1))
    trainer = L.Trainer(
        accelerator="cpu",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        max_steps=steps,
        limit_val_batches=0,
        callbacks=[Notes(folder), ModelCheckpoint(folder, save_last=True, every_n_train_steps=steps, save_top_k=0)],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    last = folder / "last.ckpt"
    trainer.fit(task, Digits(batch_size=batch), ckpt_path=last if last.exists() else None, weights_only=False)


if __name__ == "__main__":
    devices, batch, steps, key, folder = sys.argv[1:]
    main(int(devices), int(batch), int(steps), key, Path(folder))
