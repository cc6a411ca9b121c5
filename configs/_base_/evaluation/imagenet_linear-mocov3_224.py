# MoCo v3's linear classification: one head, SGD with momentum, lr 0.1 * 1024 / 256 for a ResNet
_base_ = './imagenet_linear_224.py'

evaluation = dict(
    linear=dict(scales=[0.1], factors=[1.0], weight_decays=[0.0], batch_size=1024, momentum=0.9),
)
