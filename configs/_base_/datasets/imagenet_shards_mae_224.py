# ImageNet for MAE from tar archives on a disk or in an object store: data_root may be s3://bucket/folder or similar.
# tools/dataset_tools/make_shards.py data/imagenet data/imagenet_shards --split train
_base_ = './imagenet_mae_224.py'

train_dataloader = dict(
    sampler=dict(_delete_=True, type='ShardSampler', window=16, run=8),
    dataset=dict(_delete_=True, type='TarShards', data_root='data/imagenet_shards', pipeline=_base_.train_pipeline),
)
