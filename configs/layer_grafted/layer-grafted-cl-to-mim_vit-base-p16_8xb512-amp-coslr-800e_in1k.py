# the reverse: stem and blocks 0-7 from contrastive learning and frozen, MIM trains the rest from fresh weights
_base_ = '../mae/mae_vit-base-p16_8xb512-amp-coslr-800e_in1k.py'

model = dict(graft=[dict(checkpoint='checkpoints/vit-b-300ep.pth.tar', layers=(0, 8))], frozen_layers=8)
