# A2MIM -> MoCo v3 on the ViT of the published A2MIM weights: relative positions and layer scale in every block
_base_ = './layer-grafted_vit-base-p16_64xb64-amp-coslr-300e_in1k.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='SelfSupBEiT',
        arch='base',
        img_size=224,
        patch_size=16,
        out_type='cls_token',
    ),
    graft=[dict(checkpoint='checkpoints/a2mim_vit-base-p16.pth')],
)
