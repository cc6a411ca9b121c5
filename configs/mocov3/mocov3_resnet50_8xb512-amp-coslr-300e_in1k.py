# the authors' run of 300 epochs: lr 0.3 * 4096 / 256
_base_ = './mocov3_resnet50_8xb512-amp-coslr-100e_in1k.py'

optim_wrapper = dict(optimizer=dict(lr=4.8))
train_cfg = dict(max_epochs=300)
