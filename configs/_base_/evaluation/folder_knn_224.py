_base_ = './folder_224.py'

evaluation = dict(
    _delete_=True,
    train=_base_.evaluation.train,
    test=_base_.evaluation.test,
    knn=dict(k=[20, 10, 100, 200], temperature=[0.07, 0.1, 0.2]),
)
