# A2MIM -> SwAV: the lower 12 of the 16 blocks start from A2MIM and learn at a tenth of the rate
_base_ = './swav_resnet50_64xb64-amp-coslr-200e_in1k.py'

mim = 'work_dirs/a2mim_resnet50_8xb256-coslr-300e_in1k/epoch_300.pth'
model = dict(graft=[dict(checkpoint=mim, layers=(0, 12))])
optim_wrapper = dict(paramwise_cfg=dict(lr_layer_wise=[0.1, 0.1, 0.1, 1.0]))
