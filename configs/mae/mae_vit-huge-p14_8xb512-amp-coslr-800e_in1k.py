# ViT-H/14: 32 blocks, 1280 wide, 16 heads; the decoder is that of ViT-B, of 16 x 16 patches
_base_ = ['./mae_vit-base-p16_8xb512-amp-coslr-800e_in1k.py', '../_base_/fully_sharded.py']

model = dict(
    backbone=dict(arch='huge', patch_size=14),
)
