# blocks 0 and 1 learn at 0.3 times the rate of block 2; a recipe in configs/recipes feeds the checkpoint
_base_ = '../mocov3/mocov3_vit-micro-p4_1xb64-coslr-75e_digits-16px.py'

model = dict(graft=[dict(checkpoint='work_dirs/mae_vit-micro-p4_1xb64-coslr-210e_digits-16px/epoch_210.pth')])
optim_wrapper = dict(paramwise_cfg=dict(_delete_=True, lr_layer_wise=[0.3, 0.3, 1.0]))
