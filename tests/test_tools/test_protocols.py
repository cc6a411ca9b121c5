"""``tools/test.py`` with every protocol: rows, cache, blocks, files of other libraries, and what it refuses."""

import hashlib
import json
import re
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
import torchvision
from mmengine.config import Config
from PIL import Image
from test_tools.tiny_runs import call_tool, digits, evaluation, tiny_config, write_config

from mmselfsup_graft.checkpoints import save_atomically
from mmselfsup_graft.engine.train import load_config
from mmselfsup_graft.evaluation.score_table import table_text
from mmselfsup_graft.evaluation.scoring import read_evaluation, score_checkpoint, score_pixels
from mmselfsup_graft.registry import MODELS

PIPELINE = [dict(type='LoadImage', channels=3), dict(type='mmpretrain.PackInputs')]
SWEEP = dict(scales=[0.1, 1.0], epochs=2, batch_size=32, augment=False)


def resnet_config(**options) -> dict:
    """A config that holds an encoder and its evaluation only."""
    sides = {split: digits(split, PIPELINE, indices=60) for split in ('train', 'test')}
    protocols = dict(few_shot=dict(shots=[1, 2], draws=2), logistic=dict(), knn=dict(k=[5]), linear=SWEEP)
    return {
        '_base_': [str(Path(__file__).parents[2] / 'configs' / '_base_' / 'default_runtime.py')],
        'model': dict(
            backbone=dict(type='mmpretrain.ResNet', depth=18),
            data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
        ),
        'evaluation': {**sides, **protocols, **options},
    }


@pytest.fixture(scope='module')
def resnet(tmp_path_factory) -> Path:
    """Folder with a torchvision file and a config."""
    folder = tmp_path_factory.mktemp('resnet')
    torch.manual_seed(3)
    torch.save(torchvision.models.resnet18(num_classes=7).state_dict(), folder / 'resnet18.pth')
    write_config(folder / 'resnet.py', resnet_config())
    return folder


@pytest.fixture(scope='module')
def scored(resnet):
    done = call_tool('test', resnet / 'resnet.py', resnet / 'resnet18.pth', '--work-dir', resnet / 'work')
    assert done.code == 0, done.err
    rows = [json.loads(line) for line in (resnet / 'work' / 'results.jsonl').read_text().splitlines()]
    return resnet, done, {row['protocol']: row for row in rows}


def test_a_torchvision_file_is_scored_by_all_protocols(scored):
    folder, done, rows = scored
    assert list(rows) == ['few_shot', 'logistic', 'knn', 'linear']
    cfg = load_config(folder / 'resnet.py')
    expected = json.loads(json.dumps(score_checkpoint(cfg, folder / 'resnet18.pth').results))
    assert {name: row['result'] for name, row in rows.items()} == expected
    for name in ('logistic', 'knn', 'linear'):
        assert 10 < rows[name]['result']['accuracy'] <= 100
        assert f'{rows[name]["result"]["accuracy"]:.1f}' in done.out
    for words in ('5-NN', 'converged', 'evaluation set itself', 'weight decay', '2 labels'):
        assert words in done.out


def test_a_row_can_be_traced(scored):
    folder, _, rows = scored
    digest = hashlib.sha256((folder / 'resnet18.pth').read_bytes()).hexdigest()
    for row in rows.values():
        assert row['config'] == str(folder / 'resnet.py')
        assert re.fullmatch('[0-9a-f]{64}', row['config_sha256'])
        assert row['checkpoint'] == str(folder / 'resnet18.pth')
        assert row['checkpoint_sha256'] == digest
        assert row['checkpoint_format'] == 'mmpretrain'
        assert row['block'] is None
        assert row['images'] == {'train': 60, 'test': 60}
        assert row['left_out'] == {'train': 0, 'test': 0}
        assert row['versions']['torch'] == version('torch')
        names = {'python', 'torch', 'torchvision', 'numpy', 'mmengine', 'mmpretrain', 'scikit-learn', 'mmselfsup_graft'}
        assert set(row['versions']) == names
        assert 'unknown' not in row['versions'].values()
        assert set(row['samples_sha256']) == {'train', 'test'}
        assert row['processes'] == 1
        assert row['device']
        kept = json.loads((folder / 'work' / f'config_{row["config_sha256"][:12]}.json').read_text())
        assert kept['evaluation']['train']['indices'] == 60
    assert rows['linear']['selection'] == 'test'
    assert rows['knn']['selection'] == 'first'
    assert rows['logistic']['selection'] is None
    assert rows['logistic']['seed'] is None
    assert rows['few_shot']['seed'] == 0
    assert rows['linear']['settings']['scales'] == [0.1, 1.0]
    assert rows['linear']['settings']['lr_factor'] == 'corrected'


def test_the_hash_is_that_of_the_resolved_config(scored, tmp_path):
    folder, _, rows = scored
    arguments = ['test', folder / 'resnet.py', folder / 'resnet18.pth', '--protocols', 'knn']
    found = []
    for number, option in enumerate(('resume=True', 'evaluation.knn.seed=0', 'log_level=WARNING')):
        done = call_tool(*arguments, '--work-dir', tmp_path / str(number), '--cfg-options', option)
        assert done.code == 0, done.err
        found.append(json.loads((tmp_path / str(number) / 'results.jsonl').read_text())['config_sha256'])
    assert found[0] == rows['knn']['config_sha256']  # going on in another work directory is not another config
    assert len(set(found)) == 3


def extraction_is_forbidden(*args, **kwargs):
    raise AssertionError('features were extracted again')


def test_features_are_extracted_once(scored, tmp_path, monkeypatch):
    folder, _, rows = scored
    assert len(list((folder / 'work' / 'features').iterdir())) == 2
    from mmselfsup_graft.evaluation import encoders as embedding

    monkeypatch.setattr(embedding, 'embed', extraction_is_forbidden)
    arguments = ['test', folder / 'resnet.py', folder / 'resnet18.pth', '--work-dir', folder / 'work']
    done = call_tool(*arguments, '--protocols', 'knn', 'linear', '--out', tmp_path / 'out.json')
    assert done.code == 0, done.err
    out = json.loads((tmp_path / 'out.json').read_text())
    assert [row['protocol'] for row in out['results']] == ['knn', 'linear']
    assert [row['result'] for row in out['results']] == [rows[name]['result'] for name in ('knn', 'linear')]
    lines = (folder / 'work' / 'results.jsonl').read_text().splitlines()
    assert [json.loads(line)['protocol'] for line in lines] == [*rows, 'knn', 'linear']


def test_a_block(scored, tmp_path):
    folder, _, rows = scored
    arguments = ['test', folder / 'resnet.py', folder / 'resnet18.pth', '--protocols', 'knn']
    results = []
    for block in (1, 8):
        done = call_tool(*arguments, '--work-dir', tmp_path / str(block), '--block', block)
        assert done.code == 0, done.err
        row = json.loads((tmp_path / str(block) / 'results.jsonl').read_text())
        assert row['block'] == block
        results.append(row['result'])
    assert results[1] == rows['knn']['result']  # nothing follows the last block of a ResNet
    assert results[0] != results[1]
    message = call_tool(*arguments, '--work-dir', tmp_path / 'none', '--block', 9).error()
    assert message == 'block 9 does not exist: the encoder has blocks 1 to 8'
    assert not (tmp_path / 'none').exists()


def test_a_wrong_checkpoint_is_refused(resnet, tmp_path):
    torch.save(torchvision.models.resnet34().state_dict(), tmp_path / 'resnet34.pth')
    state = torchvision.models.resnet18().state_dict()
    state['layer3.0.conv1.weight'] = state['layer3.0.conv1.weight'][:, :3]
    torch.save(state, tmp_path / 'cut.pth')
    torch.save({'weight': torch.ones(3)}, tmp_path / 'foreign.pth')
    vit = MODELS.build(tiny_config('cl')['model'])
    save_atomically({'state_dict': vit.state_dict()}, tmp_path / 'vit.pth')
    for name, says in {
        'resnet34': 'has 16 blocks, expected 8',
        'cut': r'layer3\.0\.conv1\.weight has shape',
        'foreign': 'is not one of the known formats',
        'vit': 'does not fit this backbone',
    }.items():
        file = tmp_path / f'{name}.pth'
        message = call_tool('test', resnet / 'resnet.py', file, '--work-dir', tmp_path / 'run').error()
        assert re.search(says, message), message
        assert str(file) in message
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
    ('options', 'arguments', 'says'),
    [
        (
            {},
            ['--protocols', 'knn', 'lineer'],
            "protocol 'lineer' is not in the evaluation section, which has few_shot",
        ),
        ({'linear': dict(SWEEP, augment=True)}, [], 'give evaluation.augmented'),
        ({'linear': dict(SWEEP, epoch=3)}, [], "unknown key 'evaluation.linear.epoch'"),
        ({'loader': dict(batchsize=3)}, [], "unknown key 'evaluation.loader.batchsize'"),
        ({'knn': dict(k=20)}, [], "'evaluation.knn.k' is 20, but knn takes tuple[int, ...]"),
        ({'svm': dict()}, [], "unknown key 'evaluation.svm'"),
    ],
)
def test_faulty_sections(options, arguments, says, resnet, tmp_path):
    config = write_config(tmp_path / 'config.py', resnet_config(**options))
    outcome = call_tool('test', config, resnet / 'resnet18.pth', '--work-dir', tmp_path / 'run', *arguments)
    assert says in outcome.error()
    assert not (tmp_path / 'run').exists()


def images(root: Path, broken: int) -> dict:
    for number in range(24):
        place = root / f'class_{number % 2}'
        place.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (16, 16), (90 * (number % 2) + number, 9 * number, 40)).save(place / f'{number}.png')
    for number in range(broken):
        (root / 'class_1' / f'{2 * number + 1}.png').write_bytes(b'no picture')
    return dict(type='ImageFolder', data_root=str(root), pipeline=PIPELINE)


def test_unreadable_images_are_counted(resnet, tmp_path):
    train, test = images(tmp_path / 'train', 2), images(tmp_path / 'test', 1)
    section = resnet_config(train=train, test=test)
    config = write_config(tmp_path / 'config.py', section)
    for _ in range(2):  # extracted, and from the cache
        done = call_tool('test', config, resnet / 'resnet18.pth', '--work-dir', tmp_path / 'run', '--protocols', 'knn')
        assert done.code == 0, done.err
        assert '2 unreadable train images were left out' in done.out
    for line in (tmp_path / 'run' / 'results.jsonl').read_text().splitlines():
        row = json.loads(line)
        assert row['left_out'] == {'train': 2, 'test': 1}
        assert row['images'] == {'train': 22, 'test': 23}


def test_holding_out_of_augmented_images(resnet, tmp_path):
    sweep = dict(SWEEP, augment=True, selection='holdout', holdout_share=0.25)
    augmented = digits('train', PIPELINE, indices=60)
    config = write_config(tmp_path / 'same.py', resnet_config(linear=sweep, augmented=augmented))
    plain = write_config(tmp_path / 'plain.py', resnet_config(linear=dict(sweep, augment=False)))
    found = []
    for path in (config, plain):
        arguments = ['--work-dir', tmp_path / path.stem, '--protocols', 'linear']
        done = call_tool('test', path, resnet / 'resnet18.pth', *arguments)
        assert done.code == 0, done.err
        assert 'held-out part' in done.out
        found.append(json.loads((tmp_path / path.stem / 'results.jsonl').read_text())['result'])
    # "augmented" images that are the plain ones: the same samples in the same order
    assert found[0]['accuracies'] == pytest.approx(found[1]['accuracies'])
    other = write_config(tmp_path / 'other.py', resnet_config(linear=sweep, augmented=dict(augmented, indices=50)))
    message = call_tool('test', other, resnet / 'resnet18.pth', '--work-dir', tmp_path / 'run').error()
    assert 'evaluation.augmented (50 images) must hold the images of evaluation.train (60)' in message


def test_a_pre_training_config_with_a_sweep(tmp_path):
    """The section of a training config may hold the new protocols too."""
    section = {**evaluation(60), 'linear': SWEEP, 'logistic': dict()}
    content = tiny_config('cl', evaluation=section)
    config = write_config(tmp_path / 'cl.py', content)
    save_atomically({'state_dict': MODELS.build(content['model']).state_dict()}, tmp_path / 'cl.pth')
    done = call_tool('test', config, tmp_path / 'cl.pth', '--work-dir', tmp_path / 'run')
    assert done.code == 0, done.err
    head = done.out.splitlines()[1].split()
    assert head == ['1', 'label', '2', 'labels', 'logistic', '5-NN', 'linear']


def test_raw_pixels_by_all_protocols_and_in_a_table():
    """What the report of a recipe asks for; the sweep sees augmented pixels."""
    pipeline = [dict(type='LoadImage', channels=1), dict(type='mmpretrain.PackInputs')]
    options = {'augmented': digits('train', pipeline, indices=100), 'linear': dict(SWEEP, augment=True)}
    section = read_evaluation(Config(dict(evaluation={**evaluation(100), **options, 'logistic': dict()})))
    scores = score_pixels(section)
    assert list(scores.results) == list(section.protocols) == ['few_shot', 'logistic', 'knn', 'linear']
    settings = {name: asdict(protocol) for name, protocol in section.protocols.items()}
    row = {**scores.results, 'iterations': 12, 'train_seconds': 3.4, 'train_cpu_seconds': 5.6}
    rows = {'raw pixels': scores.results, 'CL, same contrastive epochs, mean of patches': row}
    lines = table_text({'rows': rows, 'protocol': settings}).splitlines()
    assert 'spread over 2 draws' in lines[0]
    assert lines[1].split()[-7:] == ['logistic', '5-NN', 'linear', 'iterations', 'seconds', 'CPU', 's']
    accuracies = [f'{scores.results[name]["accuracy"]:.1f}' for name in ('logistic', 'knn', 'linear')]
    assert lines[2].split()[-3:] == accuracies
    assert lines[3].split()[-6:] == [*accuracies, '12', '3', '6']
    assert len(lines[1]) == len(lines[3])  # a long name does not push the numbers out of their columns
    assert scores.results['linear']['accuracy'] > 30
