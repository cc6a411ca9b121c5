_base_ = './logistic_vit-base-p16_1percent-in1k.py'

model = dict(backbone=dict(arch='large'))
