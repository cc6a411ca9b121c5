# SimMIM -> SwAV: one rate per stage, stages 1 to 3 learn at a tenth of the rate of stage 4
_base_ = './swav_resnet18-w16_1xb128-coslr-60e_fashion-mnist-28px.py'

mim = 'work_dirs/simmim_resnet18-w16_1xb128-coslr-60e_fashion-mnist-28px/epoch_60.pth'
model = dict(graft=[dict(checkpoint=mim)])
optim_wrapper = dict(paramwise_cfg=dict(lr_layer_wise=[0.1, 0.1, 0.1, 1.0]))
