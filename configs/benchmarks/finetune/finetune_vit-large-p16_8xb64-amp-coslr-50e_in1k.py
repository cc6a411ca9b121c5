# the official ViT-L recipe: 512 images accumulated over 2 steps, layer decay 0.8, drop path 0.2
_base_ = './finetune_vit-base-p16_8xb128-amp-coslr-100e_in1k.py'

model = dict(backbone=dict(arch='large', drop_path_rate=0.2))

train_dataloader = dict(batch_size=64)
optim_wrapper = dict(accumulative_counts=2, paramwise_cfg=dict(layer_wise_decay_ratio=0.8))
param_scheduler = [
    dict(type='WarmupCosineLR', warmup=5, min_ratio=1e-6 / 2e-3, by_epoch=True, convert_to_iter_based=True)
]
train_cfg = dict(max_epochs=50)
auto_scale_lr = dict(base_batch_size=512, accumulated=2)
