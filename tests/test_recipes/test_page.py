"""What a report page is made of: chosen images, queries, the table, and encoders."""

import hashlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from mmselfsup_graft.analysis.embedding.chosen import choose_queries, spread
from mmselfsup_graft.analysis.embedding.measure import nearest_neighbors
from mmselfsup_graft.analysis.pages.document import duration
from mmselfsup_graft.evaluation import Embedded, FeatureCache
from mmselfsup_graft.evaluation.encoders import Encoder
from mmselfsup_graft.evaluation.score_table import FEATURE_NAMES
from mmselfsup_graft.recipes.page import embedding_maps as embedding
from mmselfsup_graft.recipes.page.embedding_maps import embed_held_out
from mmselfsup_graft.recipes.page.gather import _cost_of_all, _data_name
from mmselfsup_graft.recipes.page.score_rows import better_features, page_table
from mmselfsup_graft.recipes.page.usage import commands_for
from mmselfsup_graft.recipes.recipe import SCORE, Recipe, Stage
from mmselfsup_graft.utils.files import write_json


def test_all_of_few_images_are_taken():
    assert spread(np.array([1, 0, 1]), 3, 5).tolist() == [0, 1, 2]
    assert spread(None, 3, 3).tolist() == [0, 1, 2]


def test_of_many_images_a_share_of_every_class_is_taken():
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [600, 300, 100]))
    chosen = spread(labels, 1000, 100)
    assert len(set(chosen.tolist())) == 100
    assert chosen.tolist() == sorted(chosen.tolist())
    np.testing.assert_allclose(np.bincount(labels[chosen]), [60, 30, 10], atol=1)


def test_without_labels_images_from_all_over_are_taken():
    assert spread(None, 1000, 3).tolist() == [0, 500, 999]


@pytest.mark.parametrize(
    ('labels', 'expected'),
    [
        ([0, 0, 1, 1, 2, 2], [0, 2, 4, 1]),  # each class in turn
        ([3, 3, 3], [0, 1, 2]),
        ([5, 4, 3, 2, 1, 0, 0], [5, 3, 2, 0]),  # classes 0, 2, 3 and 5
    ],
)
def test_queries_are_of_different_classes(labels, expected):
    assert choose_queries(np.array(labels), len(labels), 4).tolist() == expected


def test_queries_without_labels():
    assert choose_queries(None, 9, 3).tolist() == [0, 4, 8]
    assert choose_queries(None, 2, 6).tolist() == [0, 1]


def result(**rows):
    few = {'shots': [1, 2], 'draws': 5, 'selection': 'first'}
    protocol = {'few_shot': few, 'knn': {'k': [20], 'selection': 'first'}}
    return {
        'rows': rows,
        'protocol': protocol,
        'images': {'train': 30, 'test': 10},
        'left_out': {'train': 2, 'test': 0},
    }


def scored(one, two, knn, **more):
    few = {n: {'mean': mean, 'std': 1.0} for n, mean in ((1, one), (2, two)) if mean is not None}
    return {'few_shot': few, 'knn': {'accuracy': knn}, **more}


def test_the_table_marks_what_is_best_as_printed():
    table = page_table(
        result(a=scored(50.0, 60.04, 70.0), b=scored(40.0, 59.96, 71.0, iterations=3, train_seconds=9.0))
    )
    assert table.columns == ('1 label', '2 labels', '20-NN')
    assert [[cell.best for cell in row.cells] for row in table.rows] == [[True, True, False], [False, True, True]]
    assert [(row.iterations, row.seconds) for row in table.rows] == [(None, None), (3, 9.0)]
    assert table.rows[0].cells[0].spread == 1.0
    assert any('2 train images could not be read' in note for note in table.notes)


def test_a_number_that_is_missing_is_not_the_best():
    table = page_table(result(a=scored(50.0, None, 70.0), b=scored(40.0, None, 71.0)))
    assert [(row.cells[1].value, row.cells[1].best) for row in table.rows] == [(None, False)] * 2
    assert any(note.startswith('-: ') for note in table.notes)


def test_of_several_features_the_better_one_is_known():
    rows = result(
        pixels=scored(70.0, 80.0, 90.0),
        a=scored(50.0, 60.0, 70.0, encoder='a', feature='class_token'),
        a_mean=scored(55.0, 58.0, 70.0, encoder='a', feature='patch_mean'),
    )
    assert better_features(rows) == {'a': 'patch_mean'}
    assert [(row.name, row.feature) for row in page_table(rows).rows] == [
        ('pixels', ''),
        ('a', 'class token'),
        ('a', 'mean of patches'),
    ]


class Reversed(torch.nn.Module):
    """An encoder that takes the mean brightness of every row."""

    def forward(self, x):
        return (x.mean((1, 3)),)


@pytest.fixture(params=[True, False], ids=['labeled', 'unlabeled'])
def folder(request, tmp_path) -> tuple[Path, bool]:
    rng = np.random.default_rng(0)
    for number in range(14):
        place = tmp_path / ('even' if number % 2 == 0 else 'odd') if request.param else tmp_path
        place.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).save(place / f'{number:02d}.png')
    broken = tmp_path / 'even' / '04.png' if request.param else tmp_path / '04.png'
    broken.write_bytes(b'no image')
    return tmp_path, request.param


def test_maps_and_neighbors_of_a_folder(folder, monkeypatch):
    root, labeled = folder
    pipeline = [dict(type='LoadImage', channels=3), dict(type='mmpretrain.PackInputs')]
    test = dict(type='ImageFolder', data_root=str(root), pipeline=pipeline)
    stage = SimpleNamespace(name='lgp', cfg=Config({'evaluation': {'test': test}}))
    recipe = SimpleNamespace(report={'rows': [dict(name='LGP', stage='lgp')]}, stage=lambda name: stage)
    preprocessor = embedding.raw_pixels().preprocessor
    encoder = Encoder(Reversed(), preprocessor, FeatureCache(None, {}))
    monkeypatch.setattr(embedding, 'load_encoder', lambda cfg, checkpoint: encoder)
    monkeypatch.setattr(embedding, 'stage_checkpoint', lambda work_dir, name: 'any.pth')
    found = embed_held_out(recipe, root, {})

    files = sorted(path for path in root.rglob('*.png') if path.name != '04.png')
    pictures = [np.asarray(Image.open(path)) for path in files]
    for image, picture in zip(found.sample.images, pictures, strict=True):
        np.testing.assert_array_equal(image, picture)
    if labeled:
        assert [found.sample.class_of(n) for n in range(13)] == [path.parent.name for path in files]
    else:
        assert found.sample.labels is None
        assert [each.agreement for each in found.representations] == [None, None]
    assert [each.name for each in found.representations] == ['raw pixels', 'LGP']
    features = [
        np.stack([picture.transpose(2, 0, 1).reshape(-1) / 255.0 for picture in pictures]),
        np.stack([picture.mean((1, 2)) for picture in pictures]),
    ]
    for each, values in zip(found.representations, features):
        np.testing.assert_array_equal(each.neighbors, nearest_neighbors(values, found.queries, 5))
        assert each.points.shape == (13, 2)
        if labeled:
            labels = found.sample.labels
            near = nearest_neighbors(values, np.arange(13), 5)
            assert each.agreement == pytest.approx((labels[near] == labels[:, None]).mean())


@pytest.mark.parametrize('written', [True, False])
def test_commands_name_files_that_are_there(written, tmp_path):
    cfg = Config({'evaluation': {}, 'model': {'backbone': {'type': 'mmpretrain.ResNet'}}})
    probe = Stage('probe', Config({}), ('cl',), '', SCORE, 'stage:cl')
    recipe = Recipe(tmp_path / 'recipe.py', (Stage('cl', cfg, (), ''), probe))
    (tmp_path / 'cl').mkdir()
    note = {'checkpoint': 'epoch_1.pth', 'sha256': hashlib.sha256(b'').hexdigest()}
    write_json(tmp_path / 'cl' / 'done.json', note)
    (tmp_path / 'cl' / 'epoch_1.pth').touch()
    if written:
        (tmp_path / 'cl' / 'cl.py').touch()
    lines = [command.code for command in commands_for(recipe, tmp_path)]
    assert len(lines) == (3 if written else 1)
    assert 'convert.py' in lines[-1]
    assert all(str(tmp_path / 'cl' / 'cl.py') in line for line in lines[:-1])


@pytest.mark.parametrize('root', ['.', 'inner/..', ''])
def test_the_data_have_the_name_of_their_folder(root, tmp_path, monkeypatch):
    (tmp_path / 'photos' / 'inner').mkdir(parents=True)
    monkeypatch.chdir(tmp_path / 'photos')
    dataset = {'type': 'ImageFolder', **({'data_root': root} if root else {})}
    cfg = Config({'train_dataloader': {'dataset': dataset}})
    recipe = Recipe(tmp_path / 'recipe.py', (Stage('cl', cfg, (), ''),))
    assert _data_name(recipe) == ('photos' if root else 'ImageFolder')


class Tokens(torch.nn.Module):
    """What is asked of an encoder with a class token."""

    cls_token = torch.nn.Parameter(torch.zeros(1))
    out_type = 'raw'


@pytest.mark.parametrize(
    ('asked', 'better', 'expected'),
    [
        ([], {}, ['class_token']),
        (['patch_mean'], {'LGP': 'patch_mean'}, ['patch_mean']),
        (['class_token', 'patch_mean'], {'LGP': 'patch_mean'}, ['class_token', 'patch_mean']),
        (['class_token', 'both'], {}, ['class_token', 'both']),
    ],
)
def test_only_scored_features_are_extracted(asked, better, expected, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for number in range(6):
        Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).save(tmp_path / f'{number}.png')
    pipeline = [dict(type='LoadImage', channels=3), dict(type='mmpretrain.PackInputs')]
    test = dict(type='ImageFolder', data_root=str(tmp_path), pipeline=pipeline)
    stage = SimpleNamespace(name='lgp', cfg=Config({'evaluation': {'test': test}}))
    report = {'rows': [dict(name='LGP', stage='lgp')], **({'features': asked} if asked else {})}
    recipe = SimpleNamespace(report=report, stage=lambda name: stage)
    encoder = Encoder(Tokens(), embedding.raw_pixels().preprocessor, FeatureCache(None, {}))
    monkeypatch.setattr(embedding, 'load_encoder', lambda cfg, checkpoint: encoder)
    monkeypatch.setattr(embedding, 'stage_checkpoint', lambda work_dir, name: 'any.pth')
    embed_images, wanted = embedding.embed_images, []

    def record(encoder_, data, features=None, **more):
        if encoder_ is not encoder:
            return embed_images(encoder_, data, features, **more)
        wanted.append(features)
        values = {name: rng.normal(size=(6, 4)).astype(np.float32) for name in features}
        return Embedded(values, None, np.arange(6))

    monkeypatch.setattr(embedding, 'embed_images', record)
    found = embed_held_out(recipe, tmp_path, better)
    assert wanted == [expected]
    chosen = len(expected) > 1
    assert found.representations[1].feature == (FEATURE_NAMES[better.get('LGP', expected[0])] if chosen else '')
    assert found.chosen_by_score == (chosen and bool(better))


def test_measured_times_stand_beside_the_comparison():
    rows = result(
        pixels=scored(70.0, 80.0, 90.0),
        a=scored(50.0, 60.0, 70.0, encoder='a', feature='class_token', iterations=3, train_seconds=85.0),
        a_mean=scored(55.0, 58.0, 70.0, encoder='a', feature='patch_mean', iterations=3, train_seconds=85.0),
        b=scored(50.0, 60.0, 70.0, iterations=3, train_seconds=9.4, train_cpu_seconds=168.6),
    )
    assert page_table(rows, 'A against b.').comparison == 'A against b. Measured: a 1 min 25 s; b 9 s (169 CPU s).'
    assert page_table(rows).comparison == ''
    assert page_table(result(pixels=scored(70.0, 80.0, 90.0)), 'None.').comparison == 'None.'


@pytest.mark.parametrize(
    ('done', 'expected'),
    [
        ([{'seconds': 90.0, 'cpu_seconds': 80.0}, {'seconds': 90.0, 'cpu_seconds': 85.0}], ('2 trainings', 165.0)),
        ([{'seconds': 60.0}], ('1 training', 60.0)),
        ([{'seconds': 60.0, 'cpu_seconds': 50.0}, {'seconds': 70.0}], ('2 trainings', 130.0)),
    ],
)
def test_time_of_all_trainings_is_that_of_the_processors_where_it_is_known(done, expected):
    count, seconds = expected
    assert _cost_of_all(done).startswith(f'{count}, {duration(seconds)} ')
