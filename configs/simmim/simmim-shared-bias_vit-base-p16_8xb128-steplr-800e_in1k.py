# SimMIM's own ViT: no absolute positions, one table of relative positions for all blocks
_base_ = './simmim_vit-base-p16_8xb128-steplr-800e_in1k.py'

model = dict(backbone=dict(use_abs_pos_emb=False, use_rel_pos_bias=False, use_shared_rel_pos_bias=True))
