# as in the A2MIM repository; the later OpenMixup repository has model.head.fft_weight=0
_base_ = './a2mim_resnet50_8xb256-coslr-300e_in1k.py'

model = dict(backbone=dict(depth=152), head=dict(fft_weight=0.1, fft_focal=False))

custom_hooks = [dict(type='ReconstructionHook', interval=10)]
