# the published values for 1000 epochs: lr 0.2 * 4096 / 256
_base_ = './byol_resnet50_32xb128-amp-coslr-300e_in1k.py'

model = dict(base_momentum=0.996)
optim_wrapper = dict(optimizer=dict(lr=3.2, weight_decay=1.5e-6))
train_cfg = dict(max_epochs=1000)
