# 50 epochs suffice for ViT-L, by the authors' FINETUNE.md
_base_ = './linear-mae_vit-base-p16_8xb2048-coslr-90e_in1k.py'

model = dict(backbone=dict(arch='large'))
evaluation = dict(linear=dict(epochs=50))
