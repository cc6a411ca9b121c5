_base_ = './finetune-a2mim_convnext-small_8xb256-amp-coslr-300e_in1k.py'

model = dict(backbone=dict(arch='base', drop_path_rate=0.5))
