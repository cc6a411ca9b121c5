_base_ = './folder_64.py'

evaluation = dict(
    _delete_=True,
    train=_base_.evaluation.train,
    test=_base_.evaluation.test,
    few_shot=dict(shots=[1, 2, 5, 10], draws=10),
)
