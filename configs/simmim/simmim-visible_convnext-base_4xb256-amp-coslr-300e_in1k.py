# As released: a token that starts at zero is added, so the image is never hidden and the task is trivial. The published
# figure is of this form.
_base_ = './simmim_convnext-base_4xb256-amp-coslr-300e_in1k.py'

model = dict(backbone=dict(mask_replace=False, mask_std=0.0))
