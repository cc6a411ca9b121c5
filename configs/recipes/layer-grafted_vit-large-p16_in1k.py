# the same for ViT-L; the second stage has the L1 term
_base_ = '../_base_/recipes/imagenet_cascade.py'

configs = dict(
    mim='../mae/mae_vit-large-p16_8xb512-amp-coslr-800e_in1k.py',
    lgp='../layer_grafted/layer-grafted_vit-large-p16_80xb26-amp-coslr-300e_in1k.py',
    linear='../benchmarks/linear/linear_vit-large-p16_8xb512-coslr-90e_in1k.py',
    linear_mae='../benchmarks/linear/linear-mae_vit-large-p16_8xb2048-coslr-50e_in1k.py',
    few_shot='../benchmarks/few_shot/logistic_vit-large-p16_1percent-in1k.py',
    knn='../benchmarks/knn/knn_vit-large-p16_in1k.py',
)

# on each of 8 GPUs 260 images in the second stage, the published 2080
stages = [
    _base_.stages[0],
    dict(
        name='lgp',
        config='lgp',
        options={'model.graft': [dict(checkpoint='stage:mim')], 'train_dataloader.batch_size': 260},
    ),
    *_base_.stages[2:],
]
