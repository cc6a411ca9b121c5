# the encoder, data and length of the small MoCo v3
_base_ = [
    '../_base_/models/byol_resnet50.py',
    '../_base_/datasets/digits_mocov3_16.py',
    '../_base_/schedules/small_adamw_60e.py',
    '../_base_/evaluation/digits_16.py',
    '../_base_/default_runtime.py',
]

model = dict(
    channels_last=False,
    backbone=dict(
        _delete_=True,
        type='SelfSupViT',
        arch=dict(embed_dims=64, num_layers=3, num_heads=4, feedforward_channels=256),
        img_size=16,
        patch_size=4,
        in_channels=1,
        init='mocov3',
        stop_grad_patch_embed=True,
    ),
    neck=dict(hid_channels=256, out_channels=64, with_avg_pool=False),
    head=dict(hid_channels=256),
)

train_dataloader = dict(batch_size=64)
optim_wrapper = dict(optimizer=dict(lr=2e-3, betas=(0.9, 0.999)))
param_scheduler = [dict(type='WarmupCosineLR', warmup=10, by_epoch=True, convert_to_iter_based=True)]
train_cfg = dict(max_epochs=75)
auto_scale_lr = dict(base_batch_size=64)
default_hooks = dict(
    momentum=dict(type='MomentumScheduleHook'), collapse=dict(type='CollapseHook'), checkpoint=dict(interval=15)
)
