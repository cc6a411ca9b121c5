# from the first layer of the projector of a contrastive checkpoint
_base_ = './finetune_vit-mini-p4_1xb64-coslr-20e_fashion-mnist-1pct-28px.py'

model = dict(
    head=dict(
        _delete_=True,
        type='FirstFCHead',
        num_classes=10,
        loss=dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    )
)
