# for small convolutional networks with a mask token: token and gain are not decayed and learn at a tenth of the rate, as in
# A2MIM's recipes (a2mim_adamw_resnet_100e.py)
_base_ = './small_adamw_60e.py'

optim_wrapper = dict(
    paramwise_cfg=dict(
        _delete_=True,
        rules=[dict(match='bias', decay_mult=0.0), dict(match='mask_token|mask_gamma', lr_mult=0.1, decay_mult=0.0)],
    )
)
