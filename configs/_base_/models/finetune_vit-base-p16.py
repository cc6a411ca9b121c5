# ViT-B/16 with a linear head on the class token after the final norm; mixup or cutmix in every batch, half each.
# tools/finetune.py fills in the checkpoint; trained without one, the encoder starts fresh.
model = dict(
    type='GraftedClassifier',
    backbone=dict(type='SelfSupViT', arch='base', img_size=224, patch_size=16, init='mae', drop_path_rate=0.1),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=1000,
        loss=dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=2e-5),
    ),
    train_cfg=dict(augments=[dict(type='mmpretrain.Mixup', alpha=0.8), dict(type='mmpretrain.CutMix', alpha=1.0)]),
)
