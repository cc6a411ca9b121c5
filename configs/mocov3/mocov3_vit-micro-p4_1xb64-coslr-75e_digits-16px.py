# sized for five minutes on two cores, see records/quickstart_digits: three blocks, smaller batches, a higher rate
_base_ = [
    '../_base_/models/mocov3_vit-mini-p4.py',
    '../_base_/datasets/digits_mocov3_16.py',
    '../_base_/schedules/small_adamw_60e.py',
    '../_base_/evaluation/digits_16.py',
    '../_base_/default_runtime.py',
]

# among 64 images of ten classes most negatives are false ones: a higher temperature than for ImageNet
model = dict(backbone=dict(arch=dict(num_layers=3)), head=dict(temperature=0.5))

train_dataloader = dict(batch_size=64)
# everything is decayed, as in MoCo v3
optim_wrapper = dict(optimizer=dict(lr=2e-3, betas=(0.9, 0.999), weight_decay=0.1), paramwise_cfg=dict(_delete_=True))
param_scheduler = [dict(type='WarmupCosineLR', warmup=10, by_epoch=True, convert_to_iter_based=True)]
train_cfg = dict(max_epochs=75)
auto_scale_lr = dict(base_batch_size=64)
default_hooks = dict(
    momentum=dict(type='MomentumScheduleHook'), collapse=dict(type='CollapseHook'), checkpoint=dict(interval=15)
)
