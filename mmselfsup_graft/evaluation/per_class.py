"""Which classes a classifier takes for which: confusion matrix and accuracy per class, as a file and a short text."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric

from mmselfsup_graft.utils.files import write_json

MOST_CLASSES = 2000  # the matrix of more classes is not kept
_SHOWN = 3


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Count the images of each class by the class they are taken for.

    Args:
        labels: [N], 0 to ``classes - 1``.
        predicted: [N], likewise.
        classes: Number of classes.

    Returns:
        int64 [classes, classes]; a row per true class, a column per predicted one.
    """
    flat = np.bincount(labels * classes + predicted, minlength=classes * classes)
    return flat.reshape(classes, classes).astype(np.int64)


def class_accuracies(matrix: np.ndarray) -> list[float | None]:
    """Accuracy of each class in per cent; None for a class without images."""
    totals = matrix.sum(1)
    return [100.0 * float(row[i]) / int(n) if n else None for i, (row, n) in enumerate(zip(matrix, totals))]


class ConfusionMetric(BaseMetric):
    """Confusion matrix of the test data, as a metric beside others; it adds nothing to the scores.

    Attributes:
        matrix: See :func:`confusion_matrix`; None before the end of a test, on all processes but the first, and for
            samples with several labels.
    """

    def __init__(self, classes: int) -> None:
        super().__init__(prefix='confusion')
        self.classes = classes
        self.matrix: np.ndarray | None = None

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep label and prediction of every image."""
        for sample in data_samples:
            label, scores = torch.as_tensor(sample['gt_label']), sample.get('pred_score')
            found = sample['pred_label'] if scores is None else scores.argmax()
            self.results.append((label.flatten().tolist(), int(found)))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Compute the matrix of all processes, on the first."""
        if all(len(labels) == 1 for labels, _ in results):
            pairs = np.array([(labels[0], found) for labels, found in results], dtype=np.int64).reshape(-1, 2)
            self.matrix = confusion_matrix(pairs[:, 0], pairs[:, 1], self.classes)
        return {}


def write_confusion(
    matrix: np.ndarray, classes: Sequence[str] | None, path: str | os.PathLike, about: dict[str, Any]
) -> str:
    """Write a matrix as JSON: ``classes``, ``accuracy`` per class, ``images`` per class and ``matrix``.

    Args:
        matrix: [C, C].
        classes: Names, at least C; None names them by their numbers.
        path: File to write, or to replace.
        about: More entries, such as the checkpoint.

    Returns:
        The weakest classes and the most frequent mistake, in a line or two.
    """
    count = len(matrix)
    names = [str(number) for number in range(count)] if classes is None else list(classes[:count])
    accuracies = class_accuracies(matrix)
    content = {
        **about,
        'classes': names,
        'accuracy': accuracies,
        'images': matrix.sum(1).tolist(),
        'matrix': matrix.tolist(),
    }
    write_json(Path(path), content)
    return _text(matrix, names, accuracies, path)


def _text(matrix: np.ndarray, names: Sequence[str], accuracies: Sequence[float | None], path: str | os.PathLike) -> str:
    known = sorted((value, name) for name, value in zip(names, accuracies) if value is not None)
    listed = known if len(known) <= 2 * _SHOWN else known[:_SHOWN]
    lead = 'accuracy per class' if listed is known else f'weakest of {len(known)} classes'
    lines = [f'{lead}: ' + ', '.join(f'{name} {value:.1f} %' for value, name in listed)]
    mistakes = matrix - np.diag(np.diag(matrix))
    true, taken = divmod(int(mistakes.argmax()), len(matrix))
    if mistakes[true, taken]:
        lines.append(f'most frequent mistake: {names[true]} taken for {names[taken]}, {mistakes[true, taken]} times')
    return '\n'.join([*lines, f'confusion matrix: {path}'])
