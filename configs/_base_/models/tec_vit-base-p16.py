# TEC with ViT-B/16 learning from ViT-B/16: adaptor of 4 chunks, two decoders of 2 shared blocks, 512 wide.
# The base model's weights are a file of any known format: model.base_checkpoint
model = dict(
    type='TEC',
    mask_ratio=0.75,
    base_model=dict(type='TargetViT', arch='base', img_size=224, patch_size=16, last_layers=2, topk=15),
    backbone=dict(type='TECViT', arch='base', img_size=224, patch_size=16, init='mae', input_adaptor=True),
    neck=dict(type='TECDecoder', decoder_embed_dim=512, decoder_depth=2, decoder_num_heads=16),
    head=dict(type='TECHead', tau=1.8),
)
