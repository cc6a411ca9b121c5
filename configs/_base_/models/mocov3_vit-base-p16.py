# MoCo v3 with ViT-B/16: projector 768-4096-4096-256, predictor 256-4096-256, patch projection frozen
model = dict(
    type='MoCoV3',
    backbone=dict(
        type='SelfSupViT', arch='base', img_size=224, patch_size=16, init='mocov3', stop_grad_patch_embed=True
    ),
    neck=dict(
        type='mmpretrain.NonLinearNeck',
        hid_channels=4096,
        out_channels=256,
        num_layers=3,
        with_bias=False,
        with_last_bias=False,
        with_last_bn=True,
        with_last_bn_affine=False,
        with_avg_pool=False,
        norm_cfg=dict(type='PortableSyncBN'),
    ),
    head=dict(
        type='ContrastiveHead',
        temperature=0.2,
        predictor=dict(
            type='mmpretrain.NonLinearNeck',
            hid_channels=4096,
            num_layers=2,
            with_bias=False,
            with_last_bias=False,
            with_last_bn=True,
            with_last_bn_affine=False,
            with_avg_pool=False,
            norm_cfg=dict(type='PortableSyncBN'),
        ),
    ),
)
