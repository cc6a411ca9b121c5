_base_ = './simmim_resnet50_8xb256-amp-coslr-300e_in1k.py'

model = dict(backbone=dict(depth=101))

custom_hooks = [dict(type='ReconstructionHook', interval=10)]
