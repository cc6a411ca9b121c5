"""One list of classes in training, validation, test and scoring: what a model is scored by, as values."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from test_tools.tiny_runs import ROOT, call_tool, fresh_name, tiny_config, write_config
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from mmselfsup_graft.datasets import ImageFolder, ImageList
from mmselfsup_graft.engine.hooks.check_data import _stored_classes, check_last_batch, check_num_classes
from mmselfsup_graft.errors import CheckpointError, ConfigError, DataError
from mmselfsup_graft.evaluation import make_protocol
from mmselfsup_graft.evaluation.scoring import Evaluation, evaluation_sets, score_pixels

PIPELINE = [dict(type='LoadImage', channels=1), dict(type='mmpretrain.PackInputs')]
NAMES = ('ant', 'bee', 'cat', 'dog')


def write_class(folder, name, count, seed=0):
    random = np.random.default_rng(seed)
    (folder / name).mkdir(parents=True)
    for number in range(count):
        picture = random.integers(0, 9, (8, 8))
        place = 2 * NAMES.index(name)
        picture[:, place : place + 2] += 240  # a bright stripe where no other class has one
        Image.fromarray(picture.astype(np.uint8)).save(folder / name / f'{number}.png')


@pytest.fixture
def animals(tmp_path):
    """Four classes to learn; the held-out split has two of them, whose own numbers would be those of the first two."""
    root = tmp_path / 'animals'
    for name in NAMES:
        write_class(root / 'seen', name, 12)
    for name in ('bee', 'dog'):
        write_class(root / 'new', name, 6, seed=1)
    return root


def side(root, split, **options):
    return dict(type='ImageFolder', data_root=str(root), split=split, pipeline=PIPELINE, **options)


PROTOCOLS = {
    'knn': dict(k=[5]),
    'few_shot': dict(shots=[5], draws=2),
    'logistic': {},
    'linear': dict(scales=[1.0, 10.0], epochs=20, batch_size=16, augment=False),
}


def accuracy(protocol, results) -> float:
    return results[protocol][5]['mean'] if protocol == 'few_shot' else results[protocol]['accuracy']


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_a_test_set_that_lacks_classes_is_scored_by_name(protocol, animals):
    protocols = {protocol: make_protocol(protocol, PROTOCOLS[protocol], protocol)}
    evaluation = Evaluation({'train': side(animals, 'seen'), 'test': side(animals, 'new')}, protocols)
    shifted = ImageFolder(str(animals), split='new', pipeline=PIPELINE)
    assert shifted.labels().tolist() == [0] * 6 + [1] * 6  # by itself: ant and bee
    assert accuracy(protocol, score_pixels(evaluation).results) == 100
    own = {'train': ImageFolder(**{k: v for k, v in side(animals, 'seen').items() if k != 'type'}), 'test': shifted}
    assert accuracy(protocol, score_pixels(evaluation, own).results) == 100


def test_a_class_that_was_never_seen_is_refused_with_both_lists(animals):
    (animals / 'seen' / 'dog').rename(animals / 'elsewhere')
    evaluation = Evaluation({'train': side(animals, 'seen'), 'test': side(animals, 'new')}, {})
    with pytest.raises(DataError, match=r"evaluation\.test data has images of 'dog'.*\(bee, dog\).*\(ant, bee, cat\)"):
        evaluation_sets(evaluation)


def test_a_training_share_without_a_class_scores_the_others(animals):
    few = side(animals, 'seen', indices=list(range(12, 48)))  # no ants
    protocols = {'knn': make_protocol('knn', PROTOCOLS['knn'], 'knn')}
    evaluation = Evaluation({'train': few, 'test': side(animals, 'new')}, protocols)
    assert score_pixels(evaluation).results['knn']['accuracy'] == 100


def test_classes_without_a_readable_image_are_said(animals, monkeypatch):
    for file in (animals / 'seen' / 'cat').iterdir():
        file.write_bytes(b'damaged')
    said = []
    monkeypatch.setattr('mmselfsup_graft.evaluation.scoring.log_once', lambda text, *_: said.append(text))
    protocols = {'knn': make_protocol('knn', PROTOCOLS['knn'], 'knn')}
    evaluation = Evaluation({'train': side(animals, 'seen'), 'test': side(animals, 'new')}, protocols)
    assert score_pixels(evaluation).results['knn']['accuracy'] == 100
    assert any('no image of 1 classes can be read (cat)' in text for text in said)


# ---------------------------------------------------------------- classifiers
def classifier(root, classes=4, **options):
    loaders = {
        name: dict(
            batch_size=8,
            num_workers=0,
            dataset=side(root, split, test_mode=split == 'new'),
            sampler=dict(type='SeededSampler', shuffle=split == 'seen'),
        )
        for name, split in (('train', 'seen'), ('val', 'new'), ('test', 'new'))
    }
    return {
        '_base_': [str(ROOT / 'configs' / '_base_' / 'default_runtime.py')],
        'model': dict(
            type='GraftedClassifier',
            backbone=dict(
                type='SelfSupViT',
                arch=dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=32),
                img_size=8,
                patch_size=4,
                in_channels=1,
            ),
            head=dict(
                type='mmpretrain.LinearClsHead',
                num_classes=classes,
                in_channels=16,
                loss=dict(type='mmpretrain.CrossEntropyLoss'),
            ),
            data_preprocessor=dict(type='ClsDataPreprocessor', num_classes=classes, mean=[127.0], std=[80.0]),
        ),
        'optim_wrapper': dict(optimizer=dict(type='AdamW', lr=0.01, weight_decay=0.0)),
        'param_scheduler': [dict(type='WarmupCosineLR', warmup=1, end=12, by_epoch=True, convert_to_iter_based=True)],
        'train_cfg': dict(type='ResumableEpochLoop', max_epochs=12),
        'val_cfg': dict(),
        'test_cfg': dict(),
        'val_evaluator': dict(type='mmpretrain.Accuracy', topk=(1,)),
        'test_evaluator': dict(type='mmpretrain.Accuracy', topk=(1,)),
        'default_hooks': dict(checkpoint=dict(type='SafeCheckpointHook', save_best='accuracy/top1')),
        **{f'{name}_dataloader': loader for name, loader in loaders.items()},
        **options,
    }


def test_a_classifier_needs_labels(animals, tmp_path):
    content = classifier(animals)
    content['train_dataloader']['dataset']['with_label'] = False
    done = call_tool('train', write_config(tmp_path / 'c.py', content), '--work-dir', tmp_path / 'run', *fresh_name())
    assert 'a classifier needs labeled images: put them into one sub-folder per class' in done.error()


def test_validation_and_a_later_test_are_scored_by_name(animals, tmp_path):
    config = write_config(tmp_path / 'c.py', classifier(animals))
    torch.manual_seed(0)
    done = call_tool('train', config, '--work-dir', tmp_path / 'w')
    assert done.code == 0, done.err
    checkpoint = tmp_path / 'w' / 'epoch_12.pth'
    meta = torch.load(checkpoint, weights_only=True)
    assert tuple(meta['meta']['dataset_meta']['classes']) == tuple(NAMES)
    log = done.out + done.err
    assert 'accuracy/top1: 100.0' in log
    assert '48 images, 4 classes (ant 12, bee 12, cat 12, dog 12), in ' in log
    assert 'validation data: 12 images, 4 classes (ant 0, bee 6, cat 0, dog 6)' in log

    (animals / 'seen').rename(animals / 'gone')  # the file knows the names
    assert call_tool('test', config, checkpoint, '--work-dir', tmp_path / 't').code == 0
    assert json.loads((tmp_path / 't' / 'test.json').read_text())['metrics']['accuracy/top1'] == 100


def test_fine_tuning_is_tested_by_name(animals, tmp_path):
    write_class(animals / 'later', 'dog', 6, seed=2)  # what is tested lacks more classes than what chooses the epoch
    content = classifier(animals)
    content['test_dataloader']['dataset'] = side(animals, 'later', test_mode=True, with_label=True)
    config = write_config(tmp_path / 'c.py', content)
    done = call_tool('finetune', config, 'random', '--work-dir', tmp_path / 'w')
    assert done.code == 0, done.err
    row = json.loads((tmp_path / 'w' / 'results.jsonl').read_text())
    assert (row['result']['accuracy'], row['result']['selection_accuracy']) == (100, 100)


def test_a_resumed_classifier_must_have_the_same_classes(animals, tmp_path):
    config = write_config(tmp_path / 'c.py', classifier(animals))
    assert call_tool('train', config, '--work-dir', tmp_path / 'w', '--epochs', '1').code == 0
    (animals / 'seen' / 'ant').rename(animals / 'seen' / 'gnu')
    done = call_tool('train', config, '--work-dir', tmp_path / 'w', '--epochs', '2', '--resume')
    assert done.code == 1
    assert 'cannot resume' in done.err  # the list of samples differs
    go_on = ['--resume', '--cfg-options', 'resume_anyway=True']
    done = call_tool('train', config, '--work-dir', tmp_path / 'w', '--epochs', '2', *go_on)
    assert done.code == 1
    assert 'trained on 4 classes (ant, bee, cat, dog), the training data has 4 classes (bee, cat, dog, gnu)' in done.err


@pytest.mark.parametrize('meta', [7, [1], {'classes': 7}, {'classes': 'cat'}, {'classes': ['cat', 1]}])
def test_stored_classes_of_another_kind(meta):
    with pytest.raises(CheckpointError, match=r'the classes of the checkpoint \(meta.dataset_meta\) are not a list'):
        _stored_classes(meta)


def test_stored_classes():
    assert _stored_classes({'classes': ['cat', 'dog']}) == ('cat', 'dog')
    assert [_stored_classes(each) for each in (None, {}, {'classes': None}, {'classes': []})] == [None] * 4


@pytest.mark.parametrize(
    ('head', 'mixing', 'wrong'),
    [(10, 10, 'model.head'), (3, 3, 'model.head'), (4, 10, 'data_preprocessor'), (4, 4, '')],
)
def test_numbers_of_classes_are_compared(head, mixing, wrong, animals):
    data = ImageFolder(str(animals), split='seen')
    model = torch.nn.Module()
    model.head, model.data_preprocessor = torch.nn.Module(), torch.nn.Module()
    model.head.num_classes, model.data_preprocessor.num_classes = head, mixing
    if not wrong:
        check_num_classes(model, data)
        return
    with pytest.raises(
        ConfigError, match=rf'4 classes \(ant, bee, cat, dog\), but {wrong}\.num_classes is {max(head, mixing)}'
    ):
        check_num_classes(model, data)


def test_numbered_classes_may_be_fewer_than_the_heads(tmp_path):
    Image.new('L', (4, 4)).save(tmp_path / 'a.png')
    (tmp_path / 'l.txt').write_text('a.png 7\n')
    model = torch.nn.Module()
    model.head = torch.nn.Module()
    for count, fits in ((10, True), (8, True), (7, False)):
        model.head.num_classes = count
        if fits:
            check_num_classes(model, ImageList(str(tmp_path), 'l.txt'))
        else:
            with pytest.raises(ConfigError, match='8 classes'):
                check_num_classes(model, ImageList(str(tmp_path), 'l.txt'))


def test_the_knn_hook_scores_by_name(animals, tmp_path):
    hook = dict(type='KNNHook', train=side(animals, 'seen'), test=side(animals, 'new'), knn=dict(k=[5]))
    seen = {}

    def keep(train, test, protocol):
        seen.update(train=train[1], test=test[1])
        return {'accuracy': 0.0}

    config = write_config(tmp_path / 'c.py', tiny_config('mim', epochs=1, custom_hooks=[hook]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('mmselfsup_graft.evaluation.knn_hook.score_features', keep)
        done = call_tool('train', config, '--work-dir', tmp_path / 'w')
    assert done.code == 0, done.err
    assert np.bincount(seen['train']).tolist() == [12, 12, 12, 12]
    assert np.bincount(seen['test']).tolist() == [0, 6, 0, 6]


@pytest.mark.parametrize(
    ('images', 'batch', 'drop_last', 'processes', 'left'),
    [(65, 64, False, 1, 1), (65, 64, True, 1, 0), (66, 64, False, 1, 0), (9, 4, False, 1, 1), (9, 4, False, 2, 0)],
)
def test_a_last_batch_of_one_is_told_before_training(images, batch, drop_last, processes, left):
    loader = DataLoader(TensorDataset(torch.zeros(images)), batch, drop_last=drop_last)
    inner = nn.Module()
    inner.fewest_images = 2
    check_last_batch(nn.Sequential(nn.Linear(1, 1)), loader, processes)  # needs no more than one
    if not left:
        check_last_batch(nn.Sequential(inner), loader, processes)
        return
    with pytest.raises(ConfigError, match=rf'would have {left}: {images} images in batches of {batch}'):
        check_last_batch(nn.Sequential(inner), loader, processes)
