# Masked image modeling, then Layer Grafted Pre-training from it, on 8 GPUs; then both encoders by their papers' protocols.
# A recipe inherits this and sets mim, lgp and the benchmarks in `configs`. MAE is scored by its own linear probe.
stages = [
    dict(name='mim', config='mim'),
    dict(name='lgp', config='lgp', options={'model.graft': [dict(checkpoint='stage:mim')]}),
    dict(name='lgp_linear', config='linear', checkpoint='stage:lgp'),
    dict(name='lgp_1percent', config='few_shot', checkpoint='stage:lgp'),
    dict(name='lgp_knn', config='knn', checkpoint='stage:lgp'),
    dict(name='mim_linear', config='linear_mae', checkpoint='stage:mim'),
    dict(name='mim_1percent', config='few_shot', checkpoint='stage:mim'),
    dict(name='mim_knn', config='knn', checkpoint='stage:mim'),
]

report = dict(
    title='Layer Grafted Pre-training',
    about='Masked image modeling (MIM), and contrastive learning that begins from it and changes its lower layers slowly (LGP).',
    reconstruct=['mim'],
)
