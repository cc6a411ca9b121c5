evaluation_pipeline = [dict(type='LoadImage', channels=1), dict(type='mmpretrain.PackInputs')]

evaluation = dict(
    train=dict(type='Digits', split='train', img_size=16, pipeline=evaluation_pipeline),
    test=dict(type='Digits', split='test', img_size=16, pipeline=evaluation_pipeline),
    few_shot=dict(shots=[1, 2, 5, 10], draws=50),
    knn=dict(k=[20]),
)
