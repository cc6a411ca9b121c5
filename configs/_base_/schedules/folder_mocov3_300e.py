# everything is decayed, as in MoCo v3
_base_ = './folder_adamw_300e.py'

optim_wrapper = dict(optimizer=dict(betas=(0.9, 0.999), weight_decay=0.1), paramwise_cfg=dict(_delete_=True))
