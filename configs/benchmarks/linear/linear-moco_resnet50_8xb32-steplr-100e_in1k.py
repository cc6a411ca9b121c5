# linear evaluation as in MoCo v1 and v2: one head, learning rate 30, a tenth of it from epoch 60 and from 80 on
_base_ = [
    '../../_base_/models/frozen_resnet50.py',
    '../../_base_/evaluation/imagenet_linear_224.py',
    '../../_base_/default_runtime.py',
]

evaluation = dict(
    loader=dict(batch_size=32),
    linear=dict(
        scales=[30.0],
        factors=[1.0],
        weight_decays=[0.0],
        momentum=0.9,
        milestones=[60, 80],
        epochs=100,
        batch_size=256,
    ),
)
