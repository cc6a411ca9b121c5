# longer than the released run of 300 epochs
_base_ = './a2mim_resnet152_8xb256-coslr-300e_in1k.py'

train_cfg = dict(max_epochs=800)
custom_hooks = [dict(type='ReconstructionHook', interval=25)]
