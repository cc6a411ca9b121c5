# no Fourier loss, as released
_base_ = './a2mim_resnet50_8xb256-coslr-300e_in1k.py'

model = dict(backbone=dict(depth=200), head=dict(fft_weight=0.0, fft_focal=False))

custom_hooks = [dict(type='ReconstructionHook', interval=10)]
