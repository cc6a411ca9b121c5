# drop path as in OpenMixup; no average of the weights
_base_ = './finetune-rsb-a2_resnet50_8xb256-amp-coslr-300e_in1k.py'

model = dict(backbone=dict(depth=152, drop_path_rate=0.15))
custom_hooks = []
