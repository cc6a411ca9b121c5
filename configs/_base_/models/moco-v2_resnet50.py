# MoCo v2 with ResNet-50: pooled map, projector 2048-2048-128 with biases and without batch norm. Batch norm takes the
# statistics of one process
model = dict(
    type='MoCo',
    base_momentum=0.999,
    queue_size=65536,
    temperature=0.2,
    channels_last=True,
    backbone=dict(type='mmpretrain.ResNet', depth=50, norm_cfg=dict(type='BN'), zero_init_residual=False),
    neck=dict(type='mmpretrain.MoCoV2Neck', hid_channels=2048, out_channels=128, with_avg_pool=True),
)
