# the official recipe from MAE's ViT-B of 1600 epochs
_base_ = [
    '../_base_/models/tec_vit-base-p16.py',
    '../_base_/datasets/imagenet_mae_224.py',
    '../_base_/schedules/mae_adamw_800e.py',
    '../_base_/evaluation/imagenet_224.py',
    '../_base_/default_runtime.py',
]

model = dict(base_checkpoint='checkpoints/mae_pretrain_vit_base.pth')

train_cfg = dict(max_epochs=300)
default_hooks = dict(checkpoint=dict(interval=20))
custom_hooks = [dict(type='ExportBackboneHook')]
