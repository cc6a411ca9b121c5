# for TEC of 800 epochs from iBOT
_base_ = './finetune-tec-mae-300e_vit-base-p16_8xb128-amp-coslr-100e_in1k.py'

optim_wrapper = dict(paramwise_cfg=dict(layer_wise_decay_ratio=0.55))
