# the Fourier loss is the focal L1 of the spectrum here
_base_ = './a2mim_resnet50_8xb256-coslr-300e_in1k.py'

model = dict(backbone=dict(depth=101), head=dict(fft_weight=0.1, fft_focal=False))

custom_hooks = [dict(type='ReconstructionHook', interval=10)]
