_base_ = [
    '../_base_/models/byol_resnet50.py',
    '../_base_/datasets/folder_mocov3_64.py',
    '../_base_/schedules/small_adamw_60e.py',
    '../_base_/evaluation/folder_64.py',
    '../_base_/default_runtime.py',
]

# the encoder of the small MoCo v3
model = dict(
    channels_last=False,
    backbone=dict(
        _delete_=True,
        type='SelfSupViT',
        arch=dict(embed_dims=64, num_layers=6, num_heads=4, feedforward_channels=256),
        img_size=64,
        patch_size=8,
        in_channels=3,
        init='mocov3',
        stop_grad_patch_embed=True,
    ),
    neck=dict(hid_channels=256, out_channels=64, with_avg_pool=False),
    head=dict(hid_channels=256),
)

optim_wrapper = dict(optimizer=dict(betas=(0.9, 0.999)))
default_hooks = dict(
    momentum=dict(type='MomentumScheduleHook'), collapse=dict(type='CollapseHook'), checkpoint=dict(interval=5)
)
