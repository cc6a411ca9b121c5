# the official ViT-L recipe on 10 % of the labels: 512 images accumulated over 2 steps, layer decay 0.65
_base_ = './finetune-first-fc_vit-base-p16_8xb128-amp-coslr-200e_in1k-10pct.py'

model = dict(backbone=dict(arch='large'))

train_dataloader = dict(batch_size=64)
optim_wrapper = dict(accumulative_counts=2, paramwise_cfg=dict(layer_wise_decay_ratio=0.65))
param_scheduler = [
    dict(type='WarmupCosineLR', warmup=5, min_ratio=1e-6 / 1.2e-4, by_epoch=True, convert_to_iter_based=True)
]
train_cfg = dict(max_epochs=400)
auto_scale_lr = dict(base_batch_size=512, accumulated=2)
