# two accumulated batches of 4 x 256 make the published 2048
_base_ = './simmim_convnext-tiny_8xb256-amp-coslr-300e_in1k.py'

model = dict(backbone=dict(arch='base'))

optim_wrapper = dict(accumulative_counts=2)
auto_scale_lr = dict(base_batch_size=1024, accumulated=2)
