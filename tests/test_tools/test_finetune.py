"""``tools/finetune.py`` on tiny runs: it learns, keeps the best epoch, resumes, writes one row, refuses wrong files."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from helpers import vit_config
from mmengine.dataset import default_collate
from test_tools.tiny_runs import ROOT, assert_identical, call_tool, digits, fresh_name, load, merged, write_config
from tiny_finetuning import HIDDEN, write_contrastive

from mmselfsup_graft.engine.resuming.latest import latest_checkpoint
from mmselfsup_graft.engine.runners import ResumableEpochLoop
from mmselfsup_graft.engine.train import load_config
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.evaluation.finetuning.finetune import prepare_finetuning
from mmselfsup_graft.evaluation.results import file_sha256
from mmselfsup_graft.registry import DATASETS, MODELS

WIDTH, EPOCHS, IMAGES = 16, 4, 60
BACKBONE = vit_config(width=WIDTH, in_channels=1, drop_path_rate=0.1)


def finetune_config(channels: int = 1, **options: Any) -> dict[str, Any]:
    """Content of a fine-tuning config on the digits."""
    pipeline = [dict(type='LoadImage', channels=channels), dict(type='mmpretrain.PackInputs')]
    loader = dict(batch_size=20, num_workers=0, collate_fn=dict(type='default_collate'))
    side = {name: digits(name, pipeline, indices=IMAGES) for name in ('train', 'test')}
    validation = dict(loader, sampler=dict(type='SeededSampler', shuffle=False), dataset=side['test'])
    config = {
        '_base_': [str(ROOT / 'configs' / '_base_' / place) for place in ('default_runtime.py',)],
        'model': dict(
            type='GraftedClassifier',
            backbone=BACKBONE,
            head=dict(
                type='mmpretrain.LinearClsHead',
                num_classes=10,
                in_channels=WIDTH,
                loss=dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
                init_cfg=dict(type='TruncNormal', layer='Linear', std=2e-5),
            ),
        ),
        'data_preprocessor': dict(
            type='mmpretrain.ClsDataPreprocessor', num_classes=10, mean=[78.0], std=[81.0], to_rgb=False
        ),
        'train_dataloader': dict(
            loader, drop_last=True, sampler=dict(type='SeededSampler', shuffle=True), dataset=side['train']
        ),
        'val_dataloader': validation,
        'test_dataloader': validation,
        'val_evaluator': dict(type='mmpretrain.Accuracy', topk=(1,)),
        'test_evaluator': dict(type='mmpretrain.Accuracy', topk=(1,)),
        'optim_wrapper': dict(
            type='OptimWrapper',
            optimizer=dict(type='AdamW', lr=1e-2, weight_decay=0.05),
            constructor='LayerWiseLRConstructor',
            paramwise_cfg=dict(layer_wise_decay_ratio=0.9, no_decay_names=['cls_token'], head_lr_scale=2.0),
        ),
        'param_scheduler': [
            dict(type='WarmupCosineLR', warmup=1, end=EPOCHS, by_epoch=True, convert_to_iter_based=True)
        ],
        'train_cfg': dict(type='ResumableEpochLoop', max_epochs=EPOCHS),
        'val_cfg': dict(),
        'test_cfg': dict(),
        'default_hooks': dict(checkpoint=dict(save_best='accuracy/top1')),
        'auto_scale_lr': dict(enable=False, base_batch_size=20),
    }
    return merged(config, options)


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """A config and a checkpoint to start from."""
    place = tmp_path_factory.mktemp('finetune')
    write_config(place / 'tiny.py', finetune_config())
    write_contrastive(BACKBONE, WIDTH, place / 'moco.pth')
    return place


def tune(config: Path, checkpoint: Path, work_dir: Path, *options: Any) -> dict[str, Any]:
    """Run the tool; returns its last row, after a look at what it printed."""
    done = call_tool('finetune', config, checkpoint, '--work-dir', work_dir, *options, *fresh_name())
    assert done.code == 0, done.err
    row = json.loads((work_dir / 'results.jsonl').read_text().splitlines()[-1])
    line = done.out.strip().splitlines()[-1]
    assert line.startswith(f'fine-tuned: accuracy/top1 {row["result"]["accuracy"]:.2f} % with epoch')
    return row


@pytest.fixture(scope='module')
def tuned(folder) -> tuple[Path, dict[str, Any]]:
    """A finished run of the tool: its work directory and its row."""
    return folder / 'run', tune(folder / 'tiny.py', folder / 'moco.pth', folder / 'run')


def accuracy(cfg: Any, state: dict[str, torch.Tensor], dataset: Any) -> float:
    """Per cent right, computed without the runner's evaluation."""
    options = {'data_preprocessor': cfg.data_preprocessor, 'graft': None}
    model = MODELS.build({**cfg.model, **options})
    model.load_state_dict(state)
    model.eval()
    batch = default_collate([dataset[i] for i in range(len(dataset))])
    with torch.no_grad():
        scores = model.head(model.extract_feat(model.data_preprocessor(batch)['inputs']))
    return 100 * float((scores.argmax(1).numpy() == dataset.labels()).mean())


# ---------------------------------------------------------------- what a run leaves
def test_it_learns_and_always_validates_the_last_epoch(folder, tmp_path) -> None:
    """20 epochs, validated every 7: after epochs 7, 14 and 20. The training accuracy rises far above chance."""
    content = finetune_config(train_cfg=dict(max_epochs=20, val_interval=7))
    content['param_scheduler'][0]['end'] = 20
    row = tune(write_config(tmp_path / 'long.py', content), folder / 'moco.pth', tmp_path / 'run')
    assert row['result']['best_epoch'] in (7, 14, 20)
    cfg = load_config(tmp_path / 'long.py')
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    last = load(tmp_path / 'run' / 'epoch_20.pth')['state_dict']
    fresh = MODELS.build({**cfg.model, 'graft': [dict(checkpoint=str(folder / 'moco.pth'))]})
    fresh.init_weights()
    assert accuracy(cfg, last, dataset) > 40 > 25 > accuracy(cfg, fresh.state_dict(), dataset)
    tested = DATASETS.build(cfg.test_dataloader.dataset)
    assert row['result']['last_accuracy'] == pytest.approx(accuracy(cfg, last, tested), abs=1e-4)


def test_the_best_epoch_is_kept_and_tested(tuned, folder) -> None:
    work_dir, row = tuned
    result, cfg = row['result'], load_config(folder / 'tiny.py')
    (best,) = work_dir.glob('best_*.pth')
    assert best.name == f'best_accuracy_top1_epoch_{result["best_epoch"]}.pth'
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    assert result['accuracy'] == pytest.approx(accuracy(cfg, load(best)['state_dict'], dataset), abs=1e-4)
    last = load(work_dir / f'epoch_{EPOCHS}.pth')
    assert result['last_accuracy'] == pytest.approx(accuracy(cfg, last['state_dict'], dataset), abs=1e-4)
    assert result['selection_accuracy'] == pytest.approx(result['accuracy'], abs=1e-4)  # same data
    assert result['accuracy'] >= result['last_accuracy']
    assert last['message_hub']['runtime_info']['best_epoch'] == result['best_epoch']
    assert latest_checkpoint(work_dir) == str(work_dir / f'epoch_{EPOCHS}.pth')


def test_the_row_says_everything(tuned, folder) -> None:
    _, row = tuned
    settings = row['settings']
    assert (settings['epochs'], settings['batch_size'], settings['lr']) == (EPOCHS, 20, 1e-2)
    assert (settings['layer_decay'], settings['head_lr_scale'], settings['drop_path']) == (0.9, 2.0, 0.1)
    assert (row['protocol'], row['selection'], row['seed']) == ('finetune', 'test', 0)
    assert row['checkpoint_sha256'] == file_sha256(folder / 'moco.pth')
    assert row['checkpoint_format'] == 'mocov3'
    assert row['images'] == {'train': IMAGES, 'test': IMAGES}
    assert len(row['config_sha256']) == 64
    assert {'python', 'torch', 'torchvision', 'mmengine', 'mmpretrain', 'mmselfsup_graft'} <= set(row['versions'])


def test_held_out_selection_never_sees_the_test_images(folder, tmp_path) -> None:
    row = tune(folder / 'tiny.py', folder / 'moco.pth', tmp_path / 'run', '--selection', 'holdout')
    assert row['selection'] == row['settings']['selection'] == 'holdout'
    cfg = load_config(folder / 'tiny.py')
    cfg.train_dataloader.dataset.part = dict(share=0.5)
    prepare_finetuning(cfg, str(folder / 'moco.pth'), 'holdout')
    for side in (cfg.train_dataloader, cfg.val_dataloader):
        side.dataset.pop('indices')
    kept, held = (DATASETS.build(each.dataset) for each in (cfg.train_dataloader, cfg.val_dataloader))
    images = [{bytes(each.get_data_info(i)['img']) for i in range(len(each))} for each in (kept, held)]
    assert not images[0] & images[1]
    half = DATASETS.build(digits('train', [], part=dict(share=0.5)))
    assert len(kept) + len(held) == len(half)
    assert held.test_mode
    assert cfg.test_dataloader.dataset.split == 'test'
    assert cfg.val_dataloader.dataset.split == 'train'


def test_fresh_weights_by_the_same_recipe(tuned, folder, tmp_path) -> None:
    row, other = tune(folder / 'tiny.py', 'random', tmp_path / 'run'), tuned[1]
    origin = [row[key] for key in ('checkpoint', 'checkpoint_sha256', 'checkpoint_format')]
    assert origin == ['random', None, None]
    assert row['settings'] == other['settings']
    assert row['config_sha256'] == other['config_sha256']
    cfg = load_config(folder / 'tiny.py')
    cfg.model.graft = [dict(branch='momentum')]  # what a config says of the checkpoint it expects
    prepare_finetuning(cfg, 'random')
    assert cfg.model.graft is None


def test_fresh_weights_have_no_projector_to_begin_a_head_with(folder) -> None:
    cfg = load_config(folder / 'tiny.py')
    cfg.model.head = dict(type='FirstFCHead', num_classes=10, in_channels=WIDTH)
    with pytest.raises(ConfigError, match='fresh weights do not have'):
        prepare_finetuning(cfg, 'random')


# ---------------------------------------------------------------- resuming
def _killed_after_validations(monkeypatch: pytest.MonkeyPatch, count: int, before_saving: bool) -> None:
    """Stop a run like a kill: at the start of a validation, or once its checkpoint is written."""
    seen = {'epochs': 0}
    run_epoch = ResumableEpochLoop.run_epoch

    def stopping(loop: Any) -> None:
        if not before_saving and seen['epochs'] == count:
            raise KeyboardInterrupt
        run_epoch(loop)
        seen['epochs'] += 1
        if before_saving and seen['epochs'] == count:
            raise KeyboardInterrupt

    monkeypatch.setattr(ResumableEpochLoop, 'run_epoch', stopping)


@pytest.mark.parametrize('before_saving', [True, False])
def test_a_killed_run_resumes_to_the_same_bits_and_the_same_row(
    tuned, folder, tmp_path, before_saving, monkeypatch
) -> None:
    work_dir, row = tuned
    start = (folder / 'tiny.py', folder / 'moco.pth', '--work-dir', tmp_path / 'run')
    with monkeypatch.context() as patch:
        _killed_after_validations(patch, 2, before_saving)
        assert call_tool('finetune', *start, *fresh_name()).code == 130
    assert (tmp_path / 'run' / 'epoch_2.pth').is_file() != before_saving
    again = tune(folder / 'tiny.py', folder / 'moco.pth', tmp_path / 'run', '--resume')
    assert again['result'] == row['result']
    assert again['images'] == row['images']
    names = {path.name for path in work_dir.glob('*.pth')}
    assert {path.name for path in (tmp_path / 'run').glob('*.pth')} == names
    for name in names:
        assert_identical(load(tmp_path / 'run' / name)['state_dict'], load(work_dir / name)['state_dict'], name)


def test_a_run_is_not_resumed_from_something_else(tuned, folder, tmp_path) -> None:
    work_dir, _ = tuned
    start = (folder / 'tiny.py', folder / 'moco.pth', '--work-dir', work_dir, '--resume')
    message = call_tool('finetune', *start, '--selection', 'holdout', *fresh_name()).error()
    assert message.startswith(f'cannot resume the run in {work_dir}: its selection was test, now it is holdout')
    message = call_tool('finetune', *start, '--cfg-options', 'train_dataloader.batch_size=4', *fresh_name()).error()
    assert re.search(r'its config\.train_dataloader\.batch_size was \d+, now it is 4;', message)
    assert len((work_dir / 'results.jsonl').read_text().splitlines()) == 1


# ---------------------------------------------------------------- checkpoints of other kinds
def test_a_resnet_of_another_library(tmp_path) -> None:
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / 'r18.pth')
    content = finetune_config(channels=3)
    head = {**content['model']['head'], 'in_channels': 512}
    backbone = dict(type='mmpretrain.ResNet', depth=18)
    content['model'].update(backbone=backbone, neck=dict(type='mmpretrain.GlobalAveragePooling'), head=head)
    content['train_cfg']['max_epochs'] = 2
    for side in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        content[side]['dataset'] = {**content[side]['dataset'], 'indices': 20}
    config = write_config(tmp_path / 'r18.py', content)
    row = tune(config, tmp_path / 'r18.pth', tmp_path / 'run')
    assert (row['checkpoint_format'], row['result']['epochs']) == ('mmpretrain', 2)
    # and the same file for an encoder of another kind is refused in one line
    write_config(tmp_path / 'vit.py', finetune_config())
    done = call_tool('finetune', tmp_path / 'vit.py', tmp_path / 'r18.pth', '--work-dir', tmp_path / 'b', *fresh_name())
    assert 'r18.pth does not fit this backbone: it has 8 blocks, expected 3' in done.error()


@pytest.fixture
def first_fc(folder, tmp_path) -> Path:
    """A config whose head starts from the projector."""
    head = dict(type='FirstFCHead', num_classes=10, in_channels=WIDTH)
    content = finetune_config()
    content['model']['head'] = head
    return write_config(tmp_path / 'first_fc.py', content)


def test_from_the_first_layer_of_the_projector(first_fc, folder, tmp_path) -> None:
    row = tune(first_fc, folder / 'moco.pth', tmp_path / 'run')
    assert row['settings']['from_first_fc'] is True
    state = load(tmp_path / 'run' / f'epoch_{EPOCHS}.pth')['state_dict']
    assert state['head.fc0.weight'].shape == (HIDDEN, WIDTH)
    # the config beside the checkpoint builds the model without the file that it started from
    written = load_config(tmp_path / 'run' / 'first_fc.py')
    written.model.graft = written.model.head.projector = None
    MODELS.build(written.model).load_state_dict(state)


def test_a_file_without_projector_is_refused(first_fc, folder, tmp_path) -> None:
    content = torch.load(folder / 'moco.pth')['state_dict']
    encoder = {k.removeprefix('module.base_encoder.'): v for k, v in content.items() if '.head.' not in k}
    torch.save({'model': {**encoder, 'decoder_pred.weight': torch.zeros(1)}}, tmp_path / 'mae.pth')
    message = call_tool('finetune', first_fc, tmp_path / 'mae.pth', '--work-dir', tmp_path / 'run').error()
    assert 'mae.pth (format timm) holds no projector' in message
    assert not (tmp_path / 'run').exists()


def test_wrong_calls_are_one_line(folder, tmp_path) -> None:
    message = call_tool('finetune', folder / 'tiny.py', tmp_path / 'no.pth', '--work-dir', tmp_path / 'run').error()
    assert message.startswith(f'checkpoint {tmp_path / "no.pth"} does not exist')
    cfg = load_config(folder / 'tiny.py')
    with pytest.raises(ConfigError, match='selection is'):
        prepare_finetuning(cfg, str(folder / 'moco.pth'), 'val')
    cfg.default_hooks.checkpoint.save_best = None
    with pytest.raises(ConfigError, match='save_best'):
        prepare_finetuning(cfg, str(folder / 'moco.pth'))
    cfg.val_evaluator = None
    with pytest.raises(ConfigError, match='needs val_evaluator'):
        prepare_finetuning(cfg, str(folder / 'moco.pth'))
    cfg.model.type = 'MAE'
    with pytest.raises(ConfigError, match='GraftedClassifier, got MAE'):
        prepare_finetuning(cfg, str(folder / 'moco.pth'))
    content = finetune_config(default_hooks=dict(checkpoint=dict(save_best='accuracy/top3')))
    config = write_config(tmp_path / 'top3.py', content)
    done = call_tool('finetune', config, folder / 'moco.pth', '--work-dir', tmp_path / 'run', *fresh_name())
    assert "save_best='accuracy/top3' is not a result of the validation, which gives accuracy/top1" in done.error()
