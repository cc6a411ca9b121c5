# for convolutional networks with a mask token (small_a2mim_60e.py)
_base_ = './folder_adamw_300e.py'

optim_wrapper = dict(
    paramwise_cfg=dict(
        _delete_=True,
        rules=[dict(match='bias', decay_mult=0.0), dict(match='mask_token|mask_gamma', lr_mult=0.1, decay_mult=0.0)],
    )
)
