# Swin-B with windows of 6 only, for scoring at 192 px: the average of its last map; ImageNet statistics on 0..255
model = dict(
    backbone=dict(type='mmpretrain.SwinTransformer', arch='base', img_size=192, window_size=6),
    data_preprocessor=dict(
        type='SelfSupDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=False,
    ),
)
