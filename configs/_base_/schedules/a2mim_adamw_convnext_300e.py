# A2MIM's recipe for ConvNeXts, half precision: layer scales are not decayed either, token and gain learn at a tenth of
# the rate. The released list misses the weights of all layer norms: paramwise_cfg.as_released=True decays them.
_base_ = './a2mim_adamw_resnet_300e.py'

optim_wrapper = dict(
    type='AutocastOptimWrapper',
    dtype='auto',
    paramwise_cfg=dict(
        rules=[
            dict(match=r'(bn|ln|gn)(\d+)?\.(weight|bias)', decay_mult=0.0),
            dict(match='bias|gamma', decay_mult=0.0),
            dict(match='mask_token', lr_mult=0.1, decay_mult=0.0),
            dict(match='mask_gamma', lr_mult=0.1, decay_mult=0.0),
        ]
    ),
)
