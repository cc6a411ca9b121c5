# The official ViT-B recipe on 10 % of the labels: from the first layer of the projector, blr 3e-5, layer decay 0.75.
# The authors ran it at batch 1022 on 7 GPUs.
_base_ = './finetune_vit-base-p16_8xb128-amp-coslr-100e_in1k.py'

model = dict(
    head=dict(
        _delete_=True,
        type='FirstFCHead',
        num_classes=1000,
        loss=dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    )
)

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='ImageList',
        data_root='data/imagenet',
        ann_file='data/imagenet_subsets/10percent.txt',
        pipeline={{_base_.train_pipeline}},
    )
)
optim_wrapper = dict(optimizer=dict(lr=1.2e-4), paramwise_cfg=dict(layer_wise_decay_ratio=0.75))
param_scheduler = [
    dict(type='WarmupCosineLR', warmup=5, min_ratio=1e-6 / 1.2e-4, by_epoch=True, convert_to_iter_based=True)
]
train_cfg = dict(max_epochs=200, val_interval=10)
default_hooks = dict(checkpoint=dict(interval=10))
