_base_ = '../_base_/recipes/cascade.py'

configs = dict(
    mim='../simmim/simmim_swin-mini_1xb128-coslr-60e_fashion-mnist-28px.py',
    cl='../mocov3/mocov3_swin-mini_1xb128-coslr-60e_fashion-mnist-28px.py',
    lgp='../layer_grafted/layer-grafted_swin-mini_1xb128-coslr-60e_fashion-mnist-28px.py',
)

# sized for two cores: 6,000 of the 60,000 training images
options = {'train_dataloader.dataset.indices': 6000, 'evaluation.train.indices': 6000}
