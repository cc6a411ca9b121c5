# the counterpart of ImageNet's 1 %: logistic regression on 60 images of each class, those of fine-tuning
_base_ = './fashion_mnist_28.py'

evaluation = dict(
    _delete_=True,
    train=dict(type='FashionMNIST', split='train', part=dict(share=0.01), pipeline=_base_.evaluation_pipeline),
    test=_base_.evaluation.test,
    logistic=dict(regularisation=0.00025),
)
