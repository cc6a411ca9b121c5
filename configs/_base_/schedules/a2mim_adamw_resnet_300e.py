# A2MIM's recipe for ResNets over 300 epochs: its list has no rule for the gain, which learns at the full rate. It is not
# decayed here; in the released run it was (paramwise_cfg.as_released=True).
_base_ = './a2mim_adamw_resnet_100e.py'

optim_wrapper = dict(
    paramwise_cfg=dict(
        no_decay_names=['mask_gamma'],
        rules=[
            dict(match=r'(bn|ln|gn)(\d+)?\.(weight|bias)', decay_mult=0.0),
            dict(match='bias', decay_mult=0.0),
            dict(match='mask_token', lr_mult=0.1, decay_mult=0.0),
        ],
    )
)
param_scheduler = [
    dict(
        type='WarmupCosineLR',
        warmup=10,
        min_lr=1e-5,
        cosine_in_warmup=True,
        by_epoch=True,
        convert_to_iter_based=True,
    )
]
train_cfg = dict(max_epochs=300)
