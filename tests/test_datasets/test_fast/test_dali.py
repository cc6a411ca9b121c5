"""What surrounds DALI, with another decoder in its place; test_with_dali.py holds DALI itself beside PIL."""

import copy
import pickle
import sys
from types import SimpleNamespace

import pytest
import torch
from mmengine.dataset import default_collate
from PIL import Image
from test_datasets.test_fast.images import MASKED, TWO_VIEWS, dataset, photo, write_photos

from mmselfsup_graft.datasets.augment import CropRow
from mmselfsup_graft.datasets.fast import DaliDecoder, dali, decode_views
from mmselfsup_graft.errors import ConfigError, DataError
from mmselfsup_graft.registry import MODELS

CPU = torch.device('cpu')


class Stand:
    """Stands in for a pipeline of DALI: torchvision decodes."""

    def __init__(self, capacity: int, views: int, device: torch.device) -> None:
        self.max_batch_size, self.views = capacity, views

    def run(self, stream, files, **windows):
        assert stream is None
        assert len(files) <= self.max_batch_size
        assert list(windows) == [f'window{view}' for view in range(self.views)]
        packed = [torch.from_numpy(window) for window in windows.values()]
        rows = [CropRow(each[:, :4], each[:, 4:6], each[:, 6]) for each in packed]
        source = torch.tensor([[1.0, 0, 0, 3]] * len(files))
        views = decode_views([file.tobytes() for file in files], source, rows, CPU)
        return [SimpleNamespace(as_tensor=lambda view=view: view) for view in views]


@pytest.fixture
def made(monkeypatch) -> list[tuple]:
    """The arguments of every pipeline that is built."""
    calls = []

    def build(*arguments):
        calls.append(arguments)
        return Stand(*arguments)

    monkeypatch.setattr(dali, '_build', build)
    return calls


def batch_of(folder, pipeline, numbers, mode='dali') -> dict:
    return default_collate(dataset(folder, pipeline, mode).__getitems__(numbers))


def prepared(batch: dict, preprocess=None) -> list[torch.Tensor]:
    found = (preprocess or MODELS.build(dict(type='SelfSupDataPreprocessor')))(batch)['inputs']
    return found if isinstance(found, list) else [found]


def mixed(folder):
    """JPEG files with others, which the worker decodes, in between."""
    write_photos(folder)
    for number in (0, 3):
        Image.fromarray(photo(number)).save(folder / f'{number}.jpg', 'PNG')
    return folder


@pytest.mark.parametrize('pipeline', [MASKED, TWO_VIEWS], ids=['masked', 'two views'])
@pytest.mark.parametrize('numbers', [range(6), [0, 3], [1, 2], [2, 3, 4]], ids=str)
def test_every_image_keeps_its_place_and_window(tmp_path, made, pipeline, numbers):
    folder = mixed(tmp_path)
    found, expected = (prepared(batch_of(folder, pipeline, numbers, mode)) for mode in ('dali', 'nvjpeg'))
    assert len(found) == len(expected) == (2 if pipeline is TWO_VIEWS else 1)
    assert all(torch.equal(one, other) for one, other in zip(found, expected))
    assert made == [(len(set(numbers) - {0, 3}), len(found), CPU)] * bool(set(numbers) - {0, 3})


def test_a_pipeline_is_kept_as_long_as_it_fits(tmp_path, made):
    folder = write_photos(tmp_path)
    preprocess = MODELS.build(dict(type='SelfSupDataPreprocessor'))
    other_size = [MASKED[0], {**MASKED[1], 'size': 24, 'interpolation': 'bilinear'}, *MASKED[2:]]
    for pipeline, numbers in [
        (MASKED, range(4)),
        (MASKED, range(2)),
        (other_size, range(3)),
        (MASKED, range(5)),
        (TWO_VIEWS, range(2)),
        (MASKED, range(2)),
    ]:
        prepared(batch_of(folder, pipeline, numbers), preprocess)
    assert made == [(4, 1, CPU), (5, 1, CPU), (2, 2, CPU), (2, 1, CPU)]


def test_copies_make_their_own_pipelines(tmp_path, made):
    batch = batch_of(write_photos(tmp_path), TWO_VIEWS, range(3))
    preprocess = MODELS.build(dict(type='SelfSupDataPreprocessor'))
    expected = prepared(dict(batch), preprocess)
    kept = preprocess._dali._pipeline
    assert kept is not None
    for other in (copy.deepcopy(preprocess), pickle.loads(pickle.dumps(preprocess))):
        assert other._dali._pipeline is None
        assert all(torch.equal(a, b) for a, b in zip(expected, prepared(dict(batch), other)))
    assert preprocess._dali._pipeline is kept
    assert len(made) == 3
    assert not preprocess.state_dict()


DALI_SAYS = 'Error in an operator, at\n\n  File "dali.py"\n\nencountered:\n\nFailed to decode sample #0 : \nNot valid.'


@pytest.mark.parametrize(
    ('said', 'told'), [(DALI_SAYS, 'Failed to decode sample #0'), ('out of memory', 'out of memory'), ('', 'no reason')]
)
def test_after_an_error_there_is_a_new_pipeline(tmp_path, made, monkeypatch, said, told):
    batch = batch_of(write_photos(tmp_path), MASKED, range(2))
    preprocess = MODELS.build(dict(type='SelfSupDataPreprocessor'))

    def fail(*args, **kwargs):
        raise RuntimeError(said)

    with monkeypatch.context() as broken:
        broken.setattr(Stand, 'run', fail)
        with pytest.raises(DataError, match=f"{told}.*fast='device' can") as caught:
            prepared(dict(batch), preprocess)
        assert '\n' not in str(caught.value)
    assert prepared(dict(batch), preprocess)[0].shape == (2, 3, 48, 48)
    assert len(made) == 2


def test_a_missing_package_is_named_with_what_to_do(tmp_path, monkeypatch):
    folder = mixed(tmp_path)
    monkeypatch.setitem(sys.modules, 'nvidia.dali', None)
    assert prepared(batch_of(folder, MASKED, [0, 3]))[0].shape == (2, 3, 48, 48)  # needs none
    with pytest.raises(ConfigError, match=r"tools/install.sh --dali.*fast='nvjpeg', 'device' or 'cpu'"):
        prepared(batch_of(folder, MASKED, [0, 1]))


def test_the_decoder_is_made_at_first_use():
    assert MODELS.build(dict(type='SelfSupDataPreprocessor'))._dali is None
    assert DaliDecoder()._pipeline is None
