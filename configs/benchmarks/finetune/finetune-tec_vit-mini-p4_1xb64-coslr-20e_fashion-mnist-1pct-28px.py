_base_ = [
    '../../_base_/models/finetune_tec_vit-mini-p4.py',
    '../../_base_/datasets/fashion_mnist_finetune_28.py',
    '../../_base_/schedules/finetune_small_20e.py',
    '../../_base_/default_runtime.py',
]

optim_wrapper = dict(paramwise_cfg=dict(full_rate_names=['cls_token', 'cls_token_mlp']))
default_hooks = dict(checkpoint=dict(save_best='accuracy/top1'))
