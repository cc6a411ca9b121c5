# the authors' run of 1000 epochs: lr 0.3 * 4096 / 256, weight decay 1.5e-6, momentum 0.996 to 1
_base_ = './mocov3_resnet50_8xb512-amp-coslr-100e_in1k.py'

model = dict(base_momentum=0.996)
optim_wrapper = dict(optimizer=dict(lr=4.8, weight_decay=1.5e-6))
train_cfg = dict(max_epochs=1000)
