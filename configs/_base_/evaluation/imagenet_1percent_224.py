# the 1 % protocol: logistic regression on all images of the public list, scored on the validation set
_base_ = './imagenet_224.py'

evaluation = dict(
    _delete_=True,
    train=dict(
        type='ImageList',
        data_root='data/imagenet',
        ann_file='data/imagenet_subsets/1percent.txt',
        pipeline=_base_.evaluation_pipeline,
    ),
    test=_base_.evaluation.test,
    loader=dict(batch_size=256, num_workers=10),
    logistic=dict(regularisation=0.00025),
)
