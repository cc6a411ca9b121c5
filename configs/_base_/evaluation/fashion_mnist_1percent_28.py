# the counterpart of ImageNet's 1 %: logistic regression on the first 600 of the 60,000 training images
_base_ = './fashion_mnist_28.py'

evaluation = dict(
    _delete_=True,
    train=dict(type='FashionMNIST', split='train', indices=600, pipeline=_base_.evaluation_pipeline),
    test=_base_.evaluation.test,
    logistic=dict(regularisation=0.00025),
)
