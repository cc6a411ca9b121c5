# the published recipe for small batches: no warm-up, a queue of 3840 from epoch 15 on
_base_ = './swav_resnet50_64xb64-amp-coslr-200e_in1k.py'

model = dict(head=dict(frozen_steps=5005, queue_length=3840, epoch_queue_starts=15))
optim_wrapper = dict(optimizer=dict(lr=0.6))
param_scheduler = [dict(type='WarmupCosineLR', warmup=0, min_ratio=1e-3, by_epoch=True, convert_to_iter_based=True)]
auto_scale_lr = dict(base_batch_size=256)
