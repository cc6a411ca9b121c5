# for reconstructions of photographs; see the recipe of the digits
_base_ = [
    '../_base_/models/mae_vit-mini-p4.py',
    '../_base_/datasets/photos_mae_32.py',
    '../_base_/schedules/small_adamw_60e.py',
    '../_base_/default_runtime.py',
]

# a training of half a minute: a small model, a part of the patches that is easy to fill in, a high rate, many steps
model = dict(
    mask_ratio=0.6,
    backbone=dict(img_size=32, in_channels=3, arch=dict(num_layers=3, feedforward_channels=128)),
    neck=dict(decoder_depth=1, mlp_ratio=2),
)
optim_wrapper = dict(optimizer=dict(lr=6e-3))
param_scheduler = [dict(type='WarmupCosineLR', warmup=1, by_epoch=True, convert_to_iter_based=True)]
train_cfg = dict(max_epochs=7)
auto_scale_lr = dict(base_batch_size=32)
default_hooks = dict(checkpoint=dict(interval=7))
