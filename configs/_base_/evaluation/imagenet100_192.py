# the 100 classes of data/imagenet100 at 192 px
_base_ = './imagenet_192.py'

evaluation = dict(train=dict(data_root='data/imagenet100'), test=dict(data_root='data/imagenet100'))
