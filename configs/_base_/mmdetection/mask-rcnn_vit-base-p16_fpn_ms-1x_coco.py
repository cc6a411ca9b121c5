# A plain ViT in Mask R-CNN: a pyramid made of four of its blocks, AdamW with layer decay. The recipe is ours; heads and
# image sizes are those of the ResNets with synchronized batch norm.
_base_ = './mask-rcnn_r50_fpn-syncbn_ms-1x_coco.py'

custom_imports = dict(imports=['mmselfsup_graft.engine', 'mmselfsup_graft.models', 'mmpretrain.models', 'mmseg.models'])
norm_cfg = dict(type='SyncBN', requires_grad=True)

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.VisionTransformer',
        arch='base',
        img_size=224,  # of pre-training; the position table follows each image
        patch_size=16,
        out_type='featmap',
        out_indices=[3, 5, 7, 11],
        final_norm=False,
        drop_path_rate=0.2,
        init_cfg=dict(type='Pretrained'),
    ),
    neck=[
        dict(type='mmseg.Feature2Pyramid', embed_dim=768, rescales=[4, 2, 1, 0.5], norm_cfg=norm_cfg),
        dict(type='FPN', in_channels=[768, 768, 768, 768], out_channels=256, num_outs=5, norm_cfg=norm_cfg),
    ],
)

optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    constructor='mmselfsup_graft.LayerWiseLRConstructor',
    paramwise_cfg=dict(layer_wise_decay_ratio=0.75, no_decay_names=['pos_embed', 'cls_token']),
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
)
