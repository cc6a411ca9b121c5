# A2MIM's ViT has relative positions, which tie it to one image size: every image is padded to a square of 800 pixels, and
# the runner resizes the tables to it. Rates, losses and taps are A2MIM's.
_base_ = '../_base_/mmdetection/mask-rcnn_vit-base-p16_fpn_ms-1x_coco.py'

img_size = 800
model = dict(
    data_preprocessor=dict(pad_size_divisor=img_size),
    backbone=dict(
        _delete_=True,
        type='mmpretrain.BEiTViT',
        arch='base',
        img_size=img_size,
        patch_size=16,
        out_type='featmap',
        out_indices=[3, 5, 7, 11],
        final_norm=False,
        use_abs_pos_emb=True,
        use_rel_pos_bias=True,
        layer_scale_init_value=0.1,
        drop_path_rate=0.2,
        init_cfg=dict(type='Pretrained', checkpoint='./a2mim_vit-base_pretrain.pth'),
    ),
    roi_head=dict(bbox_head=dict(reg_decoded_bbox=True, loss_bbox=dict(type='GIoULoss', loss_weight=10.0))),
)

train_pipeline = [
    dict(type='LoadImageFromFile', backend_args=None),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(
        type='RandomChoiceResize',
        scales=[(longest, longest) for longest in range(640, img_size + 1, 32)],
        keep_ratio=True,
    ),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile', backend_args=None),
    dict(type='Resize', scale=(img_size, img_size), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

optim_wrapper = dict(
    paramwise_cfg=dict(
        _delete_=True, no_decay_1d=True, no_decay_names=['pos_embed', 'cls_token', 'relative_position_bias_table']
    ),
    optimizer=dict(lr=3e-4),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', begin=0, end=12, by_epoch=True, milestones=[9, 11], gamma=0.1),
]
