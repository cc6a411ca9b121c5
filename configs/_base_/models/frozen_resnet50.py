# the encoder only, for scoring; ImageNet statistics on 0..255
model = dict(
    backbone=dict(type='mmpretrain.ResNet', depth=50),
    data_preprocessor=dict(
        type='SelfSupDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=False,
    ),
)
