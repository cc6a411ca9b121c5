_base_ = [
    '../../_base_/models/finetune_vit-mini-p4.py',
    '../../_base_/datasets/folder_finetune_64.py',
    '../../_base_/schedules/finetune_small_20e.py',
    '../../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.ConvNeXt',
        arch=dict(depths=[2, 4], channels=[32, 64]),
        stem_patch_size=4,
        out_indices=(1,),
        drop_path_rate=0.1,
    ),
    head=dict(num_classes=2),
)
optim_wrapper = dict(paramwise_cfg=dict(_delete_=True, no_decay_1d=True))
default_hooks = dict(checkpoint=dict(save_best='accuracy/top1'))
