# A2MIM's ViT-S (8 blocks of 768 channels), without an average of the weights
_base_ = './finetune-simmim_vit-base-p16_8xb128-amp-coslr-100e_in1k.py'

model = dict(backbone=dict(arch='small'))
custom_hooks = []
