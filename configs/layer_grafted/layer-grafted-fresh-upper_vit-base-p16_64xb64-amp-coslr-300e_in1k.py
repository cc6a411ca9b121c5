# blocks 8-11 and the final norm start anew (the official scratch_end)
_base_ = './layer-grafted_vit-base-p16_64xb64-amp-coslr-300e_in1k.py'

model = dict(graft=[dict(checkpoint='checkpoints/mae_pretrain_vit_base.pth', layers=(0, 8))])
