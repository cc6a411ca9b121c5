"""It is mmpretrain's where nothing was left to the device, and models train on what it makes of a fast batch."""

import mmpretrain
import pytest
import torch
from helpers import build, mae_config, moco_config, multi_task_config, vit_config
from mmengine.dataset import default_collate
from mmengine.optim import OptimWrapper
from test_datasets.test_fast.images import COLORS, FLIP, USABLE, dataset, write_photos

from mmselfsup_graft.datasets.augment import unpack
from mmselfsup_graft.models import ClsDataPreprocessor, SelfSupDataPreprocessor, data_preprocessor
from mmselfsup_graft.registry import MODELS

MEAN, STD = [120.0, 110.0, 100.0], [50.0, 60.0, 70.0]
CROP = dict(type='mmpretrain.torchvision/RandomResizedCrop', size=16)
LOAD, PACK = dict(type='LoadImage'), dict(type='mmpretrain.PackInputs')
VIEWS = {
    'one': [CROP, FLIP],
    'two': [dict(type='TwoViews', view1=[CROP, *COLORS, FLIP], view2=[CROP, FLIP])],
    'three': [dict(type='Views', views=[[CROP, *COLORS], [CROP, FLIP], [CROP]])],
}


@pytest.mark.parametrize('views', [False, True])
@pytest.mark.parametrize('name', ['SelfSupDataPreprocessor', 'ClsDataPreprocessor'])
def test_without_augment_it_is_that_of_mmpretrain(name, views):
    if views and name == 'ClsDataPreprocessor':
        name = 'SelfSupDataPreprocessor'
    images = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    batch = {'inputs': [images, images + 1] if views else images, 'data_samples': None}
    options = dict(mean=MEAN, std=STD, to_rgb=True)
    ours, theirs = MODELS.build(dict(type=name, **options)), MODELS.build(dict(type=f'mmpretrain.{name}', **options))
    assert type(ours) in (SelfSupDataPreprocessor, ClsDataPreprocessor)
    found, expected = ours(dict(batch), True), theirs(dict(batch), True)
    assert found.keys() == expected.keys()
    pairs = zip(found['inputs'], expected['inputs'])
    assert all(torch.equal(a, b) for a, b in pairs)


def test_models_take_it_unless_they_are_told_otherwise():
    assert type(build(mae_config(vit_config())).data_preprocessor) is SelfSupDataPreprocessor
    given = {**mae_config(vit_config()), 'data_preprocessor': dict(mean=MEAN, std=STD)}
    assert type(build(given).data_preprocessor) is SelfSupDataPreprocessor
    given['data_preprocessor'] = dict(type='mmpretrain.SelfSupDataPreprocessor')
    assert type(build(given).data_preprocessor) is not SelfSupDataPreprocessor


def test_labeled_batches_are_augmented_too(tmp_path):
    data = dataset(write_photos(tmp_path), [LOAD, CROP, FLIP, PACK], 'device')
    batch = default_collate(data.__getitems__(range(6)))
    self_sup = MODELS.build(dict(type='SelfSupDataPreprocessor', mean=MEAN, std=STD))(batch)['inputs']
    labeled = MODELS.build(dict(type='ClsDataPreprocessor', mean=MEAN, std=STD))(batch)['inputs']
    assert torch.equal(self_sup, labeled)
    assert batch['inputs'].dtype == torch.uint8
    assert 0 < unpack(batch['augment'])[0].happens.sum() < 6


MODELS_OF = {
    'one': lambda: mae_config(vit_config()),
    'two': lambda: moco_config(vit_config()),
    'three': multi_task_config,
}


@pytest.mark.parametrize('mode', USABLE)
@pytest.mark.parametrize('views', VIEWS)
def test_models_train_on_it(tmp_path, views, mode):
    data = dataset(write_photos(tmp_path), [LOAD, *VIEWS[views], PACK], mode)
    batch = default_collate(data.__getitems__(range(6)))
    torch.manual_seed(0)
    model = build({**MODELS_OF[views](), 'data_preprocessor': dict(mean=MEAN, std=STD)})
    model.init_weights()
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    losses = model.train_step(batch, wrapper)
    assert torch.isfinite(losses['loss'])
    assert any(not torch.equal(p, before[name]) for name, p in model.named_parameters())


@pytest.mark.parametrize('mode', ['cpu', 'device'])
@pytest.mark.parametrize('name', ['SelfSupDataPreprocessor', 'ClsDataPreprocessor'])
def test_no_copy_of_a_batch_is_waited_for(tmp_path, monkeypatch, name, mode):
    batch = default_collate(dataset(write_photos(tmp_path), [LOAD, CROP, FLIP, PACK], mode).__getitems__(range(4)))
    preprocess = MODELS.build(dict(type=name, mean=MEAN, std=STD))
    waited, to = [], torch.Tensor.to

    def recording(self, *args, **options):
        if args and isinstance(args[0], torch.device | str):
            waited.append((tuple(self.shape), not options.get('non_blocking', args[2:3] == (True,))))
        return to(self, *args, **options)

    monkeypatch.setattr(torch.Tensor, 'to', recording)
    preprocess(batch)
    assert ((4, 3, 16, 16), False) in waited
    assert not any(waits for _, waits in waited)


def test_mixing_of_images_is_found_under_our_scope():
    assert data_preprocessor.BATCH_AUGMENTS.get('Mixup') is mmpretrain.models.Mixup
