# a ViT of 0.3 M parameters for small gray images
_base_ = './tec_vit-base-p16.py'

arch = dict(_delete_=True, embed_dims=64, num_layers=6, num_heads=4, feedforward_channels=256)
model = dict(
    base_model=dict(arch=arch, img_size=28, patch_size=4, in_channels=1, topk=9),
    backbone=dict(arch=arch, img_size=28, patch_size=4, in_channels=1),
    neck=dict(decoder_embed_dim=64, decoder_num_heads=4),
)
