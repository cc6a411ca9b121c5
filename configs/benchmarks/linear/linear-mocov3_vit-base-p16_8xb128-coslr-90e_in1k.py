_base_ = [
    '../../_base_/models/frozen_vit-base-p16.py',
    '../../_base_/evaluation/imagenet_linear-mocov3_224.py',
    '../../_base_/default_runtime.py',
]

# the authors' rate for ViTs: 3 * 1024 / 256
evaluation = dict(linear=dict(scales=[3.0]))
