# blocks 8-11 and the final norm from a contrastive checkpoint (the official graft_CL_end)
_base_ = './layer-grafted_vit-base-p16_64xb64-amp-coslr-300e_in1k.py'

model = dict(
    graft=[
        dict(checkpoint='checkpoints/mae_pretrain_vit_base.pth', layers=(0, 8)),
        dict(checkpoint='checkpoints/vit-b-300ep.pth.tar', layers=(8, 12)),
    ]
)
