"""Station: what runs beside the training. Ranks that loaded different plugins must not train together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import lightning as L

from ..errors import PluginError
from .agreement import of_all_ranks

__all__ = ["PluginParity"]

Manifest = Sequence[tuple[str, str]]


class PluginParity(L.Callback):
    """Compare (plugin, version) over the ranks, once, before anything runs.

    Args:
        manifest: the pairs of this process.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = tuple((str(name), str(version)) for name, version in manifest)
        self._checked = False

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Exchange the lists; a single process has nothing to compare.

        Raises:
            PluginError: naming the rank that differs, and in what.
        """
        if self._checked or trainer.world_size < 2:
            return
        self._checked = True
        compare(of_all_ranks(self._manifest, trainer.world_size))


def compare(manifests: Sequence[Manifest]) -> None:
    """Refuse lists that differ; the commonest is taken as right.

    Raises:
        PluginError: naming the first rank that differs, and in what.
    """
    usual = Counter(tuple(map(tuple, manifest)) for manifest in manifests).most_common(1)[0][0]
    for rank, manifest in enumerate(manifests):
        odd = set(map(tuple, manifest)) ^ set(usual)
        if odd:
            mine = sorted(f"{name} {version}" for name, version in odd & set(map(tuple, manifest)))
            theirs = sorted(f"{name} {version}" for name, version in odd - set(map(tuple, manifest)))
            raise PluginError(
                f"rank {rank} has other plugins than the rest: it has {', '.join(mine) or 'nothing'} where they have "
                f"{', '.join(theirs) or 'nothing'}; install the same plugins on every machine"
            )
