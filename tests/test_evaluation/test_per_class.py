"""Confusion matrices: counted as a loop counts, and of the head that is reported."""

import json

import numpy as np
import torch
from mmpretrain.structures import DataSample

from mmselfsup_graft.evaluation.per_class import ConfusionMetric, class_accuracies, confusion_matrix, write_confusion
from mmselfsup_graft.evaluation.protocols.linear import LinearProtocol, linear_result

LABELS = np.array([0, 0, 1, 2, 2, 2, 0])
FOUND = np.array([0, 1, 1, 0, 2, 0, 0])


def counted(labels, found, classes):
    matrix = np.zeros((classes, classes), dtype=np.int64)
    for label, prediction in zip(labels, found):
        matrix[label, prediction] += 1
    return matrix


def test_a_matrix_is_what_a_loop_counts():
    rng = np.random.default_rng(0)
    labels, found = rng.integers(0, 5, 200), rng.integers(0, 5, 200)
    np.testing.assert_array_equal(confusion_matrix(labels, found, 5), counted(labels, found, 5))
    assert confusion_matrix(LABELS, FOUND, 4).shape == (4, 4)  # a class without an image


def test_accuracy_of_a_class_without_images_is_unknown():
    accuracies = class_accuracies(confusion_matrix(LABELS, FOUND, 4))
    np.testing.assert_allclose(accuracies[:3], [200 / 3, 100, 100 / 3])
    assert accuracies[3] is None


def test_the_metric_counts_predictions_of_scores():
    samples = [
        DataSample().set_gt_label(int(label)).set_pred_score(torch.eye(3)[prediction]).to_dict()
        for label, prediction in zip(LABELS, FOUND)
    ]
    metric = ConfusionMetric(3)
    metric.process(None, samples[:4])
    metric.process(None, samples[4:])
    assert metric.evaluate(len(samples)) == {}
    np.testing.assert_array_equal(metric.matrix, counted(LABELS, FOUND, 3))


def test_the_file_and_the_text(tmp_path):
    path = tmp_path / 'confusion.json'
    text = write_confusion(confusion_matrix(LABELS, FOUND, 3), ['ant', 'bee', 'cat'], path, {'checkpoint': 'a.pth'})
    content = json.loads(path.read_text())
    assert content['matrix'] == counted(LABELS, FOUND, 3).tolist()
    assert (content['images'], content['checkpoint']) == ([3, 1, 3], 'a.pth')
    assert text.splitlines()[:2] == [
        'accuracy per class: cat 33.3 %, ant 66.7 %, bee 100.0 %',
        'most frequent mistake: cat taken for ant, 2 times',
    ]


def test_the_matrix_of_linear_evaluation_has_its_accuracy():
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(4, 6))
    sides = []
    for count in (200, 100):
        labels = rng.integers(0, 4, count)
        sides.append(((centers[labels] + rng.normal(size=(count, 6))).astype(np.float32), labels))
    for selection in ('test', 'holdout'):
        protocol = LinearProtocol(scales=(0.1, 1.0), epochs=5, batch_size=50, augment=False, selection=selection)
        scores, matrix = linear_result(*sides, protocol)
        assert matrix.sum() == 100
        np.testing.assert_array_equal(matrix.sum(1), np.bincount(sides[1][1], minlength=4))
        assert abs(np.trace(matrix) - scores['accuracy']) < 1e-9
        assert scores['accuracy'] > 50
