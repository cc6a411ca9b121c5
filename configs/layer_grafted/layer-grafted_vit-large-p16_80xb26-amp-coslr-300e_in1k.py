# the official ViT-L recipe: batch 2080, held near the MAE weights up to block 12 by an L1 term
_base_ = './layer-grafted_vit-base-p16_64xb64-amp-coslr-300e_in1k.py'

model = dict(
    backbone=dict(arch='large'),
    graft=[dict(checkpoint='checkpoints/mae_pretrain_vit_large.pth')],
    l1_distance=dict(weight=1e-5, to_block=12),
)

train_dataloader = dict(batch_size=26)
optim_wrapper = dict(optimizer=dict(lr=2080 / 256))
auto_scale_lr = dict(base_batch_size=2080)
