# the published small-batch recipe on one GPU and a folder: lr 0.6 * 64 / 256; fewer prototypes, a queue of 15 batches
_base_ = [
    '../_base_/models/swav_resnet50.py',
    '../_base_/datasets/folder_swav_224.py',
    '../_base_/schedules/swav_lars_200e.py',
    '../_base_/evaluation/folder_224.py',
    '../_base_/default_runtime.py',
]

model = dict(head=dict(num_prototypes=300, queue_length=960, epoch_queue_starts=15))
optim_wrapper = dict(optimizer=dict(lr=0.15))
param_scheduler = [dict(type='WarmupCosineLR', warmup=0, min_ratio=1e-3, by_epoch=True, convert_to_iter_based=True)]
auto_scale_lr = dict(base_batch_size=64)
default_hooks = dict(
    steps=dict(type='OptimizerStepHook'), collapse=dict(type='CollapseHook'), checkpoint=dict(interval=10)
)
