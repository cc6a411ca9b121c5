# The cascade (mim, then lgp) beside each objective alone at the same number of epochs.
# A recipe inherits this and says in `configs` what mim, cl and lgp are.
stages = [
    dict(name='mim', config='mim', share=0.5),
    dict(name='cl_alone', config='cl'),
    dict(name='lgp', config='lgp', share=0.5, options={'model.graft': [dict(checkpoint='stage:mim')]}),
    dict(name='mim_alone', config='mim'),
]

report = dict(
    title='Layer Grafted Pre-training',
    about='Masked image modeling (MIM), contrastive learning (CL), and both by layer: contrastive learning on top of '
    'masked layers that learn slowly (LGP). Compared by what their frozen features tell from few labels.',
    rows=[dict(name='MIM', stage='mim_alone'), dict(name='CL', stage='cl_alone'), dict(name='LGP', stage='lgp')],
    reconstruct=['mim_alone'],
)
