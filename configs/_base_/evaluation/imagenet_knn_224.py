# k-NN on all training images, several k and temperatures; the first pair counts
_base_ = './imagenet_224.py'

evaluation = dict(
    _delete_=True,
    train=_base_.evaluation.train,
    test=_base_.evaluation.test,
    loader=dict(batch_size=256, num_workers=10),
    knn=dict(k=[20, 10, 100, 200], temperature=[0.07, 0.1, 0.2]),
)
