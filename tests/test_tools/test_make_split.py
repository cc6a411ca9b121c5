"""The splitter: lists that the data sets read back, refusals in one line."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_tools.tiny_runs import Outcome, call_tool, run_tool_process

from mmselfsup_graft.datasets import ImageFolder, ImageList

TOOL = 'dataset_tools/make_split'


@pytest.fixture
def root(tmp_path) -> Path:
    """``train`` with four classes of ten images."""
    for label in range(4):
        folder = tmp_path / 'data' / 'train' / f'class {label}'
        folder.mkdir(parents=True)
        for number in range(10):
            Image.fromarray(np.full((4, 4), 10 * label + number, dtype=np.uint8)).save(folder / f'{number}.png')
    return tmp_path / 'data'


def make(root: Path, out: Path, *options: object) -> Outcome:
    return call_tool(TOOL, '--data-root', root, '--split', 'train', '--out', out, *options)


def test_list_of_a_folder_and_a_list_of_that_list(root, tmp_path):
    done = make(root, tmp_path / 'ten.txt', '--per-class', 5, '--seed', 3)
    assert done.code == 0, done.err
    assert '20 of 40 images, 4 classes, seed 3' in done.out
    listed = ImageList(str(root), str(tmp_path / 'ten.txt'))
    folder = ImageFolder(str(root), split='train')
    label_of = {folder.get_data_info(i)['img_path']: folder.get_data_info(i)['gt_label'] for i in range(40)}
    assert all(label_of[info['img_path']] == info['gt_label'] for info in map(listed.get_data_info, range(20)))
    assert set(Counter(listed.labels().tolist()).values()) == {5}

    done = call_tool(TOOL, '--list', tmp_path / 'ten.txt', '--share', 0.2, '--out', tmp_path / 'one.txt')
    assert done.code == 0, done.err
    lines = (tmp_path / 'one.txt').read_text().splitlines()
    assert len(lines) == 4
    assert set(lines) < set((tmp_path / 'ten.txt').read_text().splitlines())


def test_the_same_command_gives_the_same_bytes_in_another_process(root, tmp_path):
    assert make(root, tmp_path / 'a.txt', '--share', 0.3).code == 0
    arguments = ('--data-root', root, '--split', 'train', '--out', tmp_path / 'b.txt', '--share', 0.3)
    done = run_tool_process(TOOL, *arguments, folder=tmp_path)
    assert done.code == 0, done.err
    assert (tmp_path / 'a.txt').read_bytes() == (tmp_path / 'b.txt').read_bytes()


def test_an_existing_list_needs_force(root, tmp_path):
    out = tmp_path / 'list.txt'
    out.write_text('old')
    assert 'exists and was not changed' in make(root, out, '--per-class', 1).error()
    assert out.read_text() == 'old'
    assert make(root, out, '--per-class', 1, '--force').code == 0
    assert len(out.read_text().splitlines()) == 4


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--per-class', 11], 'class 0 has 10 samples, fewer than 11'),
        (['--share', 2], 'share is 2.0'),
        (['--per-class', 0], 'per_class is 0'),
    ],
)
def test_impossible_sizes(root, tmp_path, options, message):
    assert message in make(root, tmp_path / 'list.txt', *options).error()
    assert not (tmp_path / 'list.txt').exists()


def test_wrong_places(root, tmp_path):
    out = ('--per-class', 1, '--out', tmp_path / 'list.txt')
    assert 'does not exist' in call_tool(TOOL, '--data-root', tmp_path / 'none', *out).error()
    assert 'cannot be read' in call_tool(TOOL, '--list', tmp_path / 'none.txt', *out).error()
    for arguments in ((), ('--list', tmp_path / 'none.txt', '--split', 'train')):
        assert call_tool(TOOL, *arguments, *out).code == 2
    assert not (tmp_path / 'list.txt').exists()
