# MoCo v1 with ResNet-50: pooled map, one linear layer 2048-128 with bias
_base_ = './moco-v2_resnet50.py'

model = dict(
    temperature=0.07,
    neck=dict(_delete_=True, type='mmpretrain.LinearNeck', out_channels=128, gap_dim=2, norm_cfg=None),
)
