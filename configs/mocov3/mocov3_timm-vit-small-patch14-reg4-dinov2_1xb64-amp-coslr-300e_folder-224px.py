_base_ = './mocov3_vit-base-p16_1xb64-amp-coslr-300e_folder-224px.py'

# DINOv2's ViT-S/14 with registers from timm; weights: --cfg-options model.backbone.pretrained=FILE
model = dict(
    backbone=dict(_delete_=True, type='TimmBackbone', name='vit_small_patch14_reg4_dinov2', img_size=224),
)
# with such weights the lower layers shall change less
optim_wrapper = dict(paramwise_cfg=dict(layer_wise_decay_ratio=0.75))
