_base_ = [
    '../_base_/models/tec_vit-base-p16.py',
    '../_base_/datasets/folder_mae_224.py',
    '../_base_/schedules/folder_adamw_300e.py',
    '../_base_/evaluation/folder_224.py',
    '../_base_/default_runtime.py',
]

# any ViT-B/16: MAE, MoCo v3, Layer Grafted, TEC
model = dict(base_checkpoint='work_dirs/mae_vit-base-p16_1xb64-amp-coslr-300e_folder-224px/epoch_300.pth')

default_hooks = dict(checkpoint=dict(interval=10))
custom_hooks = [dict(type='ExportBackboneHook')]
