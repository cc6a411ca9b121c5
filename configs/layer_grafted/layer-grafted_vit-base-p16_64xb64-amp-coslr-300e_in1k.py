# the official ViT-B recipe: MoCo v3 from MAE's encoder; blocks 0-7 learn at a tenth of MoCo v3's rate
_base_ = '../mocov3/mocov3_vit-base-p16_8xb512-amp-coslr-300e_in1k.py'

model = dict(graft=[dict(checkpoint='checkpoints/mae_pretrain_vit_base.pth')])

train_dataloader = dict(batch_size=64)
# lr is batch / 256, so that the list holds base learning rates per 256 images
optim_wrapper = dict(optimizer=dict(lr=4096 / 256), paramwise_cfg=dict(lr_layer_wise=[1.5e-5, 1.5e-5, 1.5e-4]))
