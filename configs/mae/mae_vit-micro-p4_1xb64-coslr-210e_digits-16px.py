# sized for five minutes on two cores, see records/quickstart_digits: three blocks, smaller batches, a higher rate
_base_ = [
    '../_base_/models/mae_vit-mini-p4.py',
    '../_base_/datasets/digits_mae_16.py',
    '../_base_/schedules/small_adamw_60e.py',
    '../_base_/evaluation/digits_16.py',
    '../_base_/default_runtime.py',
]

# a decoder of one block leaves more of the work to the encoder
model = dict(backbone=dict(arch=dict(num_layers=3)), neck=dict(decoder_depth=1))

train_dataloader = dict(batch_size=64)
optim_wrapper = dict(optimizer=dict(lr=3e-3))
param_scheduler = [dict(type='WarmupCosineLR', warmup=30, by_epoch=True, convert_to_iter_based=True)]
train_cfg = dict(max_epochs=210)
auto_scale_lr = dict(base_batch_size=64)
default_hooks = dict(checkpoint=dict(interval=30))
