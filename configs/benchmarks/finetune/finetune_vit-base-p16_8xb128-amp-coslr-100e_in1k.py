# the official ViT-B recipe: blr 5e-4 at batch 1024, layer decay 0.6
_base_ = [
    '../../_base_/models/finetune_vit-base-p16.py',
    '../../_base_/datasets/imagenet_finetune_224.py',
    '../../_base_/schedules/finetune_adamw_100e.py',
    '../../_base_/default_runtime.py',
]

optim_wrapper = dict(paramwise_cfg=dict(layer_wise_decay_ratio=0.6))
default_hooks = dict(checkpoint=dict(save_best='accuracy/top1'))
