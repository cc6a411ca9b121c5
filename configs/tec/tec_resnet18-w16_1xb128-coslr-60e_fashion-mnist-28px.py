_base_ = [
    '../_base_/models/tec_resnet18-w16.py',
    '../_base_/datasets/fashion_mnist_mae_28.py',
    '../_base_/schedules/small_a2mim_60e.py',
    '../_base_/evaluation/fashion_mnist_28.py',
    '../_base_/default_runtime.py',
]

# any run of a mini ViT on Fashion-MNIST: MAE, MoCo v3, Layer Grafted, TEC
model = dict(base_checkpoint='work_dirs/mae_vit-mini-p4_1xb128-coslr-60e_fashion-mnist-28px/epoch_60.pth')

default_hooks = dict(checkpoint=dict(interval=5))
custom_hooks = [dict(type='ExportBackboneHook')]
