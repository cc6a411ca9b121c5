# ViT-L: half the rate, each image three times in an epoch that sees a third of them
_base_ = './finetune-mae_vit-base-p16_8xb128-amp-coslr-100e_in1k.py'

model = dict(backbone=dict(arch='large'))
train_dataloader = dict(sampler=dict(_delete_=True, type='RepeatedAugSampler', shuffle=True, repeats=3))
optim_wrapper = dict(optimizer=dict(lr=2e-3))
