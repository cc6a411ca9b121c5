_base_ = './swav_resnet50_64xb64-amp-coslr-200e_in1k.py'

train_cfg = dict(max_epochs=800)
