# The claims of the paper side by side: every row sees the images equally often (its stages together), except the last.
configs = dict(
    mim='../mae/mae_vit-mini-p4_1xb128-coslr-60e_fashion-mnist-28px.py',
    cl='../mocov3/mocov3_vit-mini-p4_1xb128-coslr-60e_fashion-mnist-28px.py',
    multi='../multi_task/multi-task_vit-mini-p4_1xb128-coslr-60e_fashion-mnist-28px.py',
    lgp='../layer_grafted/layer-grafted_vit-mini-p4_1xb128-coslr-60e_fashion-mnist-28px.py',
    frozen='../layer_grafted/layer-grafted-frozen_vit-mini-p4_1xb128-coslr-60e_fashion-mnist-28px.py',
    reverse='../layer_grafted/layer-grafted-cl-to-mim_vit-mini-p4_1xb128-coslr-60e_fashion-mnist-28px.py',
)

# sized for two cores: patches of 7 pixels, 16 of them, and 6,000 of the 60,000 training images
_decoder = {'neck.patch_size': 7, 'neck.num_patches': 16, 'head.patch_size': 7}
_multi = {f'model.objectives.mim.model.{key}': value for key, value in _decoder.items()}
options = {
    'train_dataloader.dataset.indices': 6000,
    'evaluation.train.indices': 6000,
    'evaluation.few_shot.shots': [1, 2, 5, 10, 20, 60],
    'evaluation.linear': dict(augment=False, epochs=30, batch_size=256, selection='holdout'),
    'model.backbone.patch_size': 7,
}

# the best of three rates for each row, see records/layer_grafted_fashion_mnist
_mim = {**{f'model.{key}': value for key, value in _decoder.items()}, 'optim_wrapper.optimizer.lr': 2e-3}
_cl = {'optim_wrapper.optimizer.lr': 4e-3}
_from_mim = {'model.graft': [dict(checkpoint='stage:mim')]}
_from_cl = {'model.graft': [dict(checkpoint='stage:cl', layers=(0, 4))]}
stages = [
    dict(name='mim', config='mim', share=0.5, options=_mim),
    dict(name='cl', config='cl', share=0.5, options=_cl),
    dict(name='multi_task', config='multi', options={**_multi, **_cl}),
    dict(name='cl_alone', config='cl', options=_cl),
    dict(name='lgp', config='lgp', share=0.5, options={**_cl, **_from_mim}),
    dict(name='frozen', config='frozen', share=0.5, options={**_cl, **_from_mim}),
    dict(
        name='cl_to_mim', config='reverse', share=0.5, options={**_mim, **_from_cl, 'optim_wrapper.optimizer.lr': 1e-3}
    ),
    dict(name='mim_alone', config='mim', options=_mim),
]

report = dict(
    rows=[
        dict(name='MIM', stage='mim_alone'),
        dict(name='CL', stage='cl_alone'),
        dict(name='multi-task', stage='multi_task'),
        dict(name='MIM->CL frozen', stage='frozen'),
        dict(name='LGP', stage='lgp'),
        dict(name='CL->MIM', stage='cl_to_mim'),
        dict(name='CL, half length', stage='cl'),
    ],
    reconstruct=['mim_alone', 'cl_to_mim'],
)
