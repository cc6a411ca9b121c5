# blocks 0-3 learn at a tenth of the rate of blocks 4 and 5; a recipe in configs/recipes feeds the checkpoint
_base_ = '../mocov3/mocov3_vit-mini-p8_1xb128-coslr-60e_folder-64px.py'

model = dict(graft=[dict(checkpoint='work_dirs/mae_vit-mini-p8_1xb128-coslr-60e_folder-64px/epoch_60.pth')])
optim_wrapper = dict(paramwise_cfg=dict(_delete_=True, lr_layer_wise=[0.1, 0.1, 1.0]))
