# blocks 0-7 learn at a tenth of the rate of blocks 8 to 11
_base_ = '../mocov3/mocov3_vit-base-p16_1xb64-amp-coslr-300e_folder-224px.py'

model = dict(graft=[dict(checkpoint='work_dirs/mae_vit-base-p16_1xb64-amp-coslr-300e_folder-224px/epoch_300.pth')])
optim_wrapper = dict(paramwise_cfg=dict(_delete_=True, lr_layer_wise=[0.1, 0.1, 1.0]))
