# MAE, Layer Grafted Pre-training and the probes of their papers: bash tools/dist_recipe.sh RECIPE 8
_base_ = '../_base_/recipes/imagenet_cascade.py'

configs = dict(
    mim='../mae/mae_vit-base-p16_8xb512-amp-coslr-800e_in1k.py',
    lgp='../layer_grafted/layer-grafted_vit-base-p16_64xb64-amp-coslr-300e_in1k.py',
    linear='../benchmarks/linear/linear_vit-base-p16_8xb512-coslr-90e_in1k.py',
    linear_mae='../benchmarks/linear/linear-mae_vit-base-p16_8xb2048-coslr-90e_in1k.py',
    few_shot='../benchmarks/few_shot/logistic_vit-base-p16_1percent-in1k.py',
    knn='../benchmarks/knn/knn_vit-base-p16_in1k.py',
)

# 512 images on each of 8 GPUs, the published 4096, in all stages
options = {'train_dataloader.batch_size': 512}
