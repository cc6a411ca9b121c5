# SimMIM -> MoCo v3 on a Swin of two stages: stage 1 learns at a tenth of the rate of stage 2
_base_ = '../mocov3/mocov3_swin-mini_1xb128-coslr-60e_fashion-mnist-28px.py'

mim = 'work_dirs/simmim_swin-mini_1xb128-coslr-60e_fashion-mnist-28px/epoch_60.pth'
model = dict(graft=[dict(checkpoint=mim)])
optim_wrapper = dict(paramwise_cfg=dict(_delete_=True, lr_layer_wise=[0.1, 1.0, 1.0]))
