_base_ = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'

# MMDetection's own tools find the operators of mmcv, compiled or not, and read files of weights without running code.
custom_imports = dict(imports=['mmselfsup_graft', 'mmselfsup_graft.libraries.weight_files'], allow_failed_imports=False)

# The stem stays frozen, layer1 trains; batch statistics are those of detection, over all GPUs.
model = dict(
    backbone=dict(
        frozen_stages=0,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        norm_eval=False,
        init_cfg=dict(type='Pretrained', checkpoint='./mocov2_r50_800ep_pretrain.pth'),
    )
)
