# for ViTs with a mask token (a2mim_adamw_vit_800e.py)
_base_ = './folder_adamw_300e.py'

optim_wrapper = dict(
    paramwise_cfg=dict(
        _delete_=True,
        rules=[dict(match=r'norm|bias|(bn|ln|gn)(\d+)?\.|pos_embed|cls_token|mask_token|gamma', decay_mult=0.0)],
    )
)
