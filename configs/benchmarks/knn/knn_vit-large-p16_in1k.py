_base_ = './knn_vit-base-p16_in1k.py'

model = dict(backbone=dict(arch='large'))
