# The cascade (mim, then lgp) beside each objective alone: as long as its own stage of the cascade, and for about the time
# of both stages (a step of cl takes three times as long as one of mim).
# A recipe inherits this and sets mim, cl and lgp in `configs`. Long stages come early: two can run in parallel.
stages = [
    dict(name='mim', config='mim', share=0.5),
    dict(name='cl_long', config='cl', share=0.65),
    dict(name='lgp', config='lgp', share=0.5, options={'model.graft': [dict(checkpoint='stage:mim')]}),
    dict(name='mim_long', config='mim', share=2),
    dict(name='cl', config='cl', share=0.5),
]

report = dict(
    title='Layer Grafted Pre-training',
    about='Masked image modeling (MIM), contrastive learning (CL), and both by layer (LGP): contrastive learning that '
    'begins from the masked stage and changes its lower layers slowly.',
    rows=[
        dict(name='MIM', stage='mim'),
        dict(name='MIM, same time', stage='mim_long'),
        dict(name='CL, same epochs', stage='cl'),
        dict(name='CL, same time', stage='cl_long'),
        dict(name='LGP', stage='lgp'),
    ],
    features=['class_token', 'patch_mean'],
    comparison='The comparison of the paper: LGP against contrastive learning of the same length (CL, same epochs). LGP '
    'also had its masked stage, so the stricter one is with what trained for about the same total time '
    '(CL, same time and MIM, same time).',
    maps=['MIM, same time', 'CL, same time', 'LGP'],
    reconstruct=['mim_long'],
)
