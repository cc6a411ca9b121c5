# With A2MIM's relative positions and layer scale; the runner resizes their tables to 512 pixels.
_base_ = '../_base_/mmsegmentation/upernet_vit-base-p16_160k_ade20k-512x512.py'

model = dict(
    backbone=dict(
        type='mmpretrain.BEiTViT',
        use_abs_pos_emb=True,
        use_rel_pos_bias=True,
        layer_scale_init_value=0.1,
        init_cfg=dict(checkpoint='./a2mim_vit-base_pretrain.pth'),
    )
)
optim_wrapper = dict(paramwise_cfg=dict(no_decay_names=['pos_embed', 'cls_token', 'relative_position_bias_table']))
