evaluation_pipeline = [dict(type='LoadImage', channels=1), dict(type='mmpretrain.PackInputs')]

evaluation = dict(
    train=dict(type='FashionMNIST', split='train', pipeline=evaluation_pipeline),
    test=dict(type='FashionMNIST', split='test', pipeline=evaluation_pipeline),
    few_shot=dict(shots=[1, 2, 5, 10], draws=10),
    knn=dict(k=[20]),
)
