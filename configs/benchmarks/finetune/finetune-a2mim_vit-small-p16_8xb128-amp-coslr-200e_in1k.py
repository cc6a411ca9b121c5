# OpenMixup's list of A2MIM's models gives ViT-S 200 epochs
_base_ = './finetune-simmim_vit-small-p16_8xb128-amp-coslr-100e_in1k.py'

param_scheduler = [
    dict(
        type='WarmupCosineLR',
        warmup=20,
        min_lr=1e-6,
        cosine_in_warmup=True,
        by_epoch=True,
        convert_to_iter_based=True,
    )
]
train_cfg = dict(max_epochs=200)
