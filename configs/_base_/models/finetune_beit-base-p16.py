# A2MIM's ViT-B/16 with relative positions and layer scale: mean of the patches after the last block, a norm, a linear
# head. The position table learns; only head and norm are new.
_base_ = './finetune_vit-base-p16.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='SelfSupBEiT',
        arch='base',
        img_size=224,
        patch_size=16,
        out_type='avg_featmap',
        final_norm=False,
        layer_scale_init_value=0.1,
        drop_path_rate=0.1,
    )
)
