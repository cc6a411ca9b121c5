# Does learning from a trained MAE beat training it on? All rows but the first see the images equally often, their stages
# together.
configs = dict(
    mim='../mae/mae_vit-mini-p4_1xb128-coslr-60e_fashion-mnist-28px.py',
    tec='../tec/tec_vit-mini-p4_1xb128-coslr-60e_fashion-mnist-28px.py',
)

# sized for two cores: patches of 7 pixels, 16 of them, and 6,000 of the 60,000 training images
options = {
    'train_dataloader.dataset.indices': 6000,
    'evaluation.train.indices': 6000,
    'evaluation.few_shot.shots': [1, 2, 5, 10, 20, 60],
    'evaluation.linear': dict(augment=False, epochs=30, batch_size=256, selection='holdout'),
    'model.backbone.patch_size': 7,
}
_mim = {
    'model.neck.patch_size': 7,
    'model.neck.num_patches': 16,
    'model.head.patch_size': 7,
    'optim_wrapper.optimizer.lr': 2e-3,
}
_tec = {
    'model.base_model.patch_size': 7,
    'model.base_model.topk': 5,
    'model.base_checkpoint': 'stage:mim',
    'optim_wrapper.optimizer.lr': 2e-3,
}

stages = [
    dict(name='mim', config='mim', share=0.5, options=_mim),
    dict(name='mim_on', config='mim', share=0.5, options={**_mim, 'load_from': 'stage:mim'}),
    dict(name='mim_long', config='mim', options=_mim),
    dict(name='tec', config='tec', share=0.5, options=_tec),
    dict(name='tec_feature', config='tec', share=0.5, options={**_tec, 'model.base_model.topk': None}),
]

report = dict(
    rows=[
        dict(name='MAE, half length', stage='mim'),
        dict(name='MAE, trained on', stage='mim_on'),
        dict(name='MAE, one schedule', stage='mim_long'),
        dict(name='TEC', stage='tec'),
        dict(name='TEC, features only', stage='tec_feature'),
    ],
    reconstruct=['mim_on', 'mim_long'],
)
