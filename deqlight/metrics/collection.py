"""Station: the metrics. All that is measured of a classifier with doubts."""

from __future__ import annotations

from collections.abc import Sequence

from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError

from .detection import AUPR, AUROC, FPR95, OUTSIDE
from .likelihood import NLL

__all__ = ["uncertainty_metrics"]


def uncertainty_metrics(stage: str, classes: int, doubts: Sequence[str] = ()) -> MetricCollection:
    """Accuracy, NLL and calibration error of the inside samples, and how well each doubt detects the outside ones.

    `update(preds=…, target=…, doubts=…)` takes probabilities `(batch, classes)`, class numbers `(batch,)`, −1 for those
    outside, and doubts by name, each `(batch,)`.

    Args:
        stage: the first part of the names: `val`, `test`.
        classes: number of classes.
        doubts: the names of the doubts; none where no sample is outside.
    """
    metrics: dict[str, Metric | MetricCollection] = {
        f"{stage}/accuracy": MulticlassAccuracy(classes, average="micro", ignore_index=OUTSIDE),
        f"{stage}/ece": MulticlassCalibrationError(classes, ignore_index=OUTSIDE),
        f"{stage}/nll": NLL(),
    }
    for kind in (AUROC, AUPR, FPR95):
        metrics |= {f"{stage}/{kind.__name__.lower()}_{doubt}": kind(doubt) for doubt in doubts}
    return MetricCollection(metrics, compute_groups=False)
