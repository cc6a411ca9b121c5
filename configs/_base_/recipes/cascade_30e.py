# The cascade (mim, then lgp) beside each objective alone at the same number of epochs.
# A recipe inherits this and says in `configs` what mim, cl and lgp are.
_half = {
    'train_cfg.max_epochs': 30,
    'param_scheduler': [dict(type='WarmupCosineLR', warmup=3, end=30, by_epoch=True, convert_to_iter_based=True)],
}

stages = [
    dict(name='mim', config='mim', options=_half),
    dict(name='cl_alone', config='cl'),
    dict(name='lgp', config='lgp', options={**_half, 'model.graft': [dict(checkpoint='stage:mim')]}),
    dict(name='mim_alone', config='mim'),
]

report = dict(
    rows=[dict(name='MIM', stage='mim_alone'), dict(name='CL', stage='cl_alone'), dict(name='LGP', stage='lgp')],
    reconstruct=['mim_alone'],
)
