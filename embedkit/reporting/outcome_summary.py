"""What a run found, for those who are handed its heads alone."""

from __future__ import annotations

from typing import Any

from embedkit.evaluation.metrics import confusion_matrix
from embedkit.reporting.predictions import read_predictions
from embedkit.reporting.protocol import describe_protocol
from embedkit.training.runs import RunRecord


def summarise_results(record: RunRecord) -> dict[str, Any]:
    """Return the run's row of the table, its protocol in sentences, and its counts of confusions.

    Returns:
        The row; beside it `protocol`, and for classes `confusion`: counts `[true class][predicted class]`, the mean
        over seeds, where the run's predictions are there.

    Raises:
        RunError: the predictions are damaged.
    """
    found = {**record.metrics, "protocol": [note for note in describe_protocol([record.metrics]) if note]}
    if record.predictions_path.is_file() and not record.metrics.get("dimensions"):
        read = read_predictions(record)
        counts = confusion_matrix(read.truth, read.predicted, len(read.classes))
        found["confusion"] = counts.mean(0).round(3).tolist()
    return found
