"""Images seen through another pipeline are not read by the fast form of the one that is replaced."""

from mmengine.config import Config
from test_tools.tiny_runs import digits

from mmselfsup_graft.analysis.interaction.report import draw_training_images
from mmselfsup_graft.analysis.reconstruction.report import images_of
from mmselfsup_graft.datasets.fast import FastPipeline
from mmselfsup_graft.evaluation.finetuning.finetune import _hold_out
from mmselfsup_graft.evaluation.finetuning.settings import FineTuneProtocol
from mmselfsup_graft.evaluation.other_pipeline import with_pipeline
from mmselfsup_graft.registry import DATASETS

LOAD, PACK = dict(type='LoadImage', channels=1), dict(type='mmpretrain.PackInputs')
CROP = dict(type='mmpretrain.torchvision/RandomResizedCrop', size=16)
PLAIN = [LOAD, dict(type='mmpretrain.torchvision/CenterCrop', size=16), PACK]  # has no fast form


def config() -> Config:
    train = digits('train', [LOAD, CROP, PACK], indices=12, fast='device')
    test = digits('test', PLAIN, indices=12)
    sides = {f'{name}_dataloader': dict(dataset=data) for name, data in dict(train=train, val=test, test=test).items()}
    return Config(dict(model=dict(backbone=dict(in_channels=1)), **sides))


def test_the_pipeline_is_replaced_and_nothing_is_compiled():
    cfg = config()
    dataset = cfg.train_dataloader.dataset
    other = with_pipeline(dataset, PLAIN, test_mode=True)
    assert other == {**dataset, 'fast': False, 'pipeline': PLAIN, 'test_mode': True}
    assert dataset.fast == 'device'
    assert not isinstance(DATASETS.build(other).pipeline.transforms[0], FastPipeline)
    foreign = dict(type='CustomDataset', pipeline=[])
    assert with_pipeline(foreign, PLAIN) == dict(type='CustomDataset', pipeline=PLAIN)


def test_all_tools_that_look_at_training_images_do_so():
    cfg = config()
    assert images_of(cfg, (16, 16), 3).shape == (3, 1, 16, 16)
    assert draw_training_images(cfg, 3).pixels.shape == (3, 1, 16, 16)
    _hold_out(cfg, FineTuneProtocol(holdout_share=0.5, holdout_seed=0))
    assert cfg.train_dataloader.dataset.fast == 'device'
    held = DATASETS.build(cfg.val_dataloader.dataset)
    assert held[0]['inputs'].shape == (1, 16, 16)
