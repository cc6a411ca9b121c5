# for small ViTs with a mask token, which is not decayed, nor is the class token (a2mim_adamw_vit_800e.py)
_base_ = './small_adamw_60e.py'

optim_wrapper = dict(paramwise_cfg=dict(no_decay_names=['cls_token', 'mask_token']))
