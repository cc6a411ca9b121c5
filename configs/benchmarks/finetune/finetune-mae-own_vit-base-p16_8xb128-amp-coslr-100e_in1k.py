# the MAE authors' recipe (FINETUNE.md): blr 5e-4 at batch 1024, layer decay 0.65, drop path 0.1
_base_ = [
    '../../_base_/models/finetune_mae_vit-base-p16.py',
    '../../_base_/datasets/imagenet_finetune_224.py',
    '../../_base_/schedules/finetune_adamw_100e.py',
    '../../_base_/default_runtime.py',
]

default_hooks = dict(checkpoint=dict(save_best='accuracy/top1'))
