# SimMIM -> MoCo v2: both encoders start from SimMIM's; stem and stages 1 to 3 learn at a tenth of the rate of stage 4
# and the projector. Everything is decayed, as without layer rates
_base_ = './moco-v2_resnet50_8xb32-coslr-200e_in1k.py'

mim = 'work_dirs/simmim_resnet50_8xb256-amp-coslr-300e_in1k/epoch_300.pth'
model = dict(graft=[dict(checkpoint=mim)])
optim_wrapper = dict(
    paramwise_cfg=dict(rules=[dict(match=r'^backbone\.(conv1|bn1|layer[123])\b', lr_mult=0.1)], as_released=True)
)
