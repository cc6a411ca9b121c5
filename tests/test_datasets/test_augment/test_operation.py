"""Every operation: PIL transform, array form and batched form draw the same numbers and come to the same images."""

import copy
import pickle

import numpy as np
import pytest
import torch
from mmcv.transforms import BaseTransform
from mmengine.dataset import default_collate
from PIL import Image
from test_datasets.test_augment.beside_pil import batch_of
from test_datasets.test_fast.images import difference, photo, seed
from torchvision import transforms

from mmselfsup_graft.datasets.augment import (
    OPERATIONS,
    Affine,
    Blur,
    ColorJitter,
    Crop,
    Noise,
    pack,
    pack_batch,
    unpack,
)
from mmselfsup_graft.datasets.fast import augment_batch

# A new operation needs an entry only if its transform has no defaults, or where it is further from PIL than BOUNDS
OPTIONS = {
    transforms.RandomResizedCrop: dict(size=(24, 40)),
    transforms.RandomAffine: dict(
        degrees=30, translate=(0.1, 0.2), shear=9, fill=77, interpolation=transforms.InterpolationMode.BILINEAR
    ),
    transforms.ColorJitter: dict(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1),
    transforms.RandomGrayscale: dict(p=0.5),
    transforms.RandomSolarize: dict(threshold=99),
}
BOUNDS = (1, 0.3)  # levels at most, and on average of the worst image
BOUNDS_OF = {Crop: (6, 0.3), ColorJitter: (12, 1.5), Blur: (4, 0.8)}
SIZE = (50, 60)
SEEDS = range(16)

operations = pytest.mark.parametrize('kind', OPERATIONS, ids=lambda kind: kind.__name__)
channels = pytest.mark.parametrize('channels', [1, 3])
deferrable = pytest.mark.parametrize('kind', [kind for kind in OPERATIONS if kind.deferrable], ids=lambda k: k.__name__)


def transform_of(kind):
    return kind.stands_for(**OPTIONS.get(kind.stands_for, {}))


def image_of(number: int, channels: int) -> np.ndarray:
    image = Image.fromarray(photo(number, *SIZE))
    return np.array(image if channels == 3 else image.convert('L'))


def by_pil(transform, image: np.ndarray) -> np.ndarray:
    picture = Image.fromarray(image)
    return np.asarray(
        transform({'img': picture})['img'] if isinstance(transform, BaseTransform) else transform(picture)
    )


def drawn_for(operation) -> list:
    """What is drawn after each seed."""
    found = []
    for number in SEEDS:
        seed(number)
        found.append(operation.draw(*SIZE))
    return found


def rows_for(operation, drawn) -> list:
    """As they come out of a batch."""
    return unpack(default_collate([pack(operation.rows(each, SIZE)) for each in drawn]))


def assert_close(kind, found: np.ndarray, expected: np.ndarray) -> None:
    most, mean = BOUNDS_OF.get(kind, BOUNDS)
    assert found.dtype == np.uint8
    assert found.shape == expected.shape
    assert difference(found, expected).max() <= most
    assert difference(found, expected).mean() <= mean


@operations
@channels
def test_draws_are_those_of_the_pil_transform(kind, channels):
    transform, operation = transform_of(kind), kind(transform_of(kind), channels)
    for number in SEEDS:
        seed(number)
        by_pil(transform, image_of(number, channels))
        expected = torch.default_generator.get_state()
        seed(number)
        operation.draw(*SIZE)
        assert torch.equal(torch.default_generator.get_state(), expected)


@operations
@channels
def test_arrays_and_batches_are_those_of_the_pil_transform(kind, channels):
    transform, operation = transform_of(kind), kind(transform_of(kind), channels)
    images = [image_of(number, channels) for number in SEEDS]
    drawn = drawn_for(operation)
    (row,) = rows_for(operation, drawn)
    batch = batch_of(images)
    together = augment_batch(batch, [row]) if kind.deferrable else row.cut(batch)
    assert torch.equal(batch, batch_of(images))
    for number, (image, each, other) in enumerate(zip(images, drawn, together)):
        seed(number)
        expected = by_pil(transform, image)
        before = image.copy()
        found = image if each is None else operation.apply(image, each)
        assert np.array_equal(image, before)
        assert_close(kind, np.array(found), expected)
        assert_close(kind, np.array(other), np.array(batch_of([expected])[0]))


@operations
@channels
def test_rows_travel(kind, channels):
    """Packed one by one or at once, between processes: every field has the numbers that were drawn."""
    operation = kind(transform_of(kind), channels)
    sent = [operation.rows(each, SIZE) for each in drawn_for(operation)]
    collated, gathered = default_collate([pack(rows) for rows in sent]), pack_batch(sent)
    for packed in (collated, gathered, pickle.loads(pickle.dumps(collated))):
        assert list(packed) == list(collated)
        (row,) = unpack(packed)
        assert type(row) is type(sent[0][0])
        for name in row._fields:
            values = getattr(row, name)
            assert values.dtype == torch.float32
            for one, (drawn,) in zip(values, sent, strict=True):
                assert torch.equal(one, torch.as_tensor(getattr(drawn, name), dtype=torch.float32))


@deferrable
@channels
def test_idle_rows_leave_images_as_they_are(kind, channels):
    operation = kind(transform_of(kind), channels)
    images = batch_of([image_of(number, channels) for number in range(3)])
    assert augment_batch(images, rows_for(operation, [None] * 3)) is images


@operations
def test_copies_draw_and_compute_the_same(kind):
    operation = kind(transform_of(kind), 3)
    image = image_of(0, 3)
    for other in (copy.deepcopy(operation), pickle.loads(pickle.dumps(operation))):
        for one, two in zip(drawn_for(operation), drawn_for(other)):
            assert (one is None) == (two is None)
            if one is not None:
                assert np.array_equal(np.array(operation.apply(image, one)), np.array(other.apply(image, two)))


def test_each_transform_has_one_operation():
    assert len({kind.stands_for for kind in OPERATIONS}) == len(OPERATIONS)
    assert {Affine, Noise} < set(OPERATIONS)
