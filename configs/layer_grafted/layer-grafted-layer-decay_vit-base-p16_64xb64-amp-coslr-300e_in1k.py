# geometric decay instead of the list; the ratio is an example, the paper's is not known to us
_base_ = './layer-grafted_vit-base-p16_64xb64-amp-coslr-300e_in1k.py'

optim_wrapper = dict(optimizer=dict(lr=2.4e-3), paramwise_cfg=dict(_delete_=True, layer_wise_decay_ratio=0.75))
