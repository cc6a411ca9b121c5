# The cascade (mim, then lgp) and, at the same number of epochs, each objective alone.
_mim = '../mae/mae_vit-mini-p4_1xb128-coslr-60e_digits-16px.py'
_cl = '../mocov3/mocov3_vit-mini-p4_1xb128-coslr-60e_digits-16px.py'
_lgp = '../layer_grafted/layer-grafted_vit-mini-p4_1xb128-coslr-60e_digits-16px.py'

# each stage of the cascade has half of the epochs that the single objectives have
_half = {
    'train_cfg.max_epochs': 30,
    'param_scheduler': [dict(type='WarmupCosineLR', warmup=3, end=30, by_epoch=True, convert_to_iter_based=True)],
}

stages = [
    dict(name='mim', config=_mim, options=_half),
    dict(name='cl_alone', config=_cl),
    dict(name='lgp', config=_lgp, options={**_half, 'model.graft': [dict(checkpoint='stage:mim')]}),
    dict(name='mim_alone', config=_mim),
]

report = dict(
    rows=[dict(name='MIM', stage='mim_alone'), dict(name='CL', stage='cl_alone'), dict(name='LGP', stage='lgp')],
    reconstruct='mim')
