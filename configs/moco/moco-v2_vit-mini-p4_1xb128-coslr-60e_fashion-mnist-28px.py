# ours: the mini ViT with the AdamW of the small configs
_base_ = [
    '../_base_/models/moco-v2_vit-mini-p4.py',
    '../_base_/datasets/fashion_mnist_mocov3_28.py',
    '../_base_/schedules/small_adamw_60e.py',
    '../_base_/evaluation/fashion_mnist_28.py',
    '../_base_/default_runtime.py',
]

optim_wrapper = dict(optimizer=dict(betas=(0.9, 0.999), weight_decay=0.1), paramwise_cfg=dict(_delete_=True))

default_hooks = dict(
    momentum=dict(type='MomentumScheduleHook', cosine=False),
    collapse=dict(type='CollapseHook'),
    checkpoint=dict(interval=5),
)
