# from MAE's ViT-B of 300 epochs
_base_ = './tec-mae_vit-base-p16_8xb512-amp-coslr-300e_in1k.py'

model = dict(base_checkpoint='checkpoints/mae_vit_base_300e.pth')

train_cfg = dict(max_epochs=100)
