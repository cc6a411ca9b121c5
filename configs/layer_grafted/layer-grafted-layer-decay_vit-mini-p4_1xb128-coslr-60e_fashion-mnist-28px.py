# geometric decay instead of the list; the ratio is an example, the paper's is not known to us
_base_ = './layer-grafted_vit-mini-p4_1xb128-coslr-60e_fashion-mnist-28px.py'

optim_wrapper = dict(optimizer=dict(lr=1e-3), paramwise_cfg=dict(_delete_=True, layer_wise_decay_ratio=0.75))
