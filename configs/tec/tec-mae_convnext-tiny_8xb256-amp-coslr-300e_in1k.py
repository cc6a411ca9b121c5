# ours, no published recipe: the same for ConvNeXt-T
_base_ = [
    '../_base_/models/tec_convnext-tiny.py',
    '../_base_/datasets/imagenet_simmim_224.py',
    '../_base_/schedules/simmim_adamw_300e.py',
    '../_base_/evaluation/imagenet_224.py',
    '../_base_/default_runtime.py',
]

model = dict(base_checkpoint='checkpoints/mae_pretrain_vit_base.pth')

default_hooks = dict(checkpoint=dict(interval=10))
custom_hooks = [dict(type='ExportBackboneHook')]
