# MoCo v2 on the mini ViT: projector 64-64-64. Nothing there has batch statistics, so nothing is shuffled
_base_ = './moco-v2_resnet50.py'

model = dict(
    queue_size=4096,
    temperature=0.1,
    channels_last=False,
    backbone=dict(
        _delete_=True,
        type='SelfSupViT',
        arch=dict(embed_dims=64, num_layers=6, num_heads=4, feedforward_channels=256),
        img_size=28,
        patch_size=4,
        in_channels=1,
        init='mocov3',
        stop_grad_patch_embed=True,
    ),
    neck=dict(hid_channels=64, out_channels=64, with_avg_pool=False),
)
