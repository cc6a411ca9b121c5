# the reverse: stem and blocks 0-3 from contrastive learning and frozen, MIM trains the rest from fresh weights
_base_ = '../mae/mae_vit-mini-p4_1xb128-coslr-60e_fashion-mnist-28px.py'

model = dict(
    graft=[
        dict(checkpoint='work_dirs/mocov3_vit-mini-p4_1xb128-coslr-60e_fashion-mnist-28px/epoch_60.pth', layers=(0, 4))
    ],
    frozen_layers=4,
)
