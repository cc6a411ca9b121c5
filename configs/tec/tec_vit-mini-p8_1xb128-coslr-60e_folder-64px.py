_base_ = [
    '../_base_/models/tec_vit-mini-p4.py',
    '../_base_/datasets/folder_mae_64.py',
    '../_base_/schedules/small_adamw_60e.py',
    '../_base_/evaluation/folder_64.py',
    '../_base_/default_runtime.py',
]

# any mini ViT of 8-px patches: MAE, MoCo v3, Layer Grafted, TEC; 15 of 64 patches, as of ImageNet's 196
size = dict(img_size=64, patch_size=8, in_channels=3)
model = dict(
    base_checkpoint='work_dirs/mae_vit-mini-p8_1xb128-coslr-60e_folder-64px/epoch_60.pth',
    base_model=dict(topk=15, **size),
    backbone=size,
)

default_hooks = dict(checkpoint=dict(interval=5))
custom_hooks = [dict(type='ExportBackboneHook')]
