# The cascade on a folder of images, given by --data-root. A fifth of the images is never trained on.
_base_ = '../_base_/recipes/cascade.py'

configs = dict(
    mim='../mae/mae_vit-mini-p8_1xb128-coslr-60e_folder-64px.py',
    cl='../mocov3/mocov3_vit-mini-p8_1xb128-coslr-60e_folder-64px.py',
    lgp='../layer_grafted/layer-grafted_vit-mini-p8_1xb128-coslr-60e_folder-64px.py',
)
options = {'train_dataloader.dataset.subset': 'train'}
