_base_ = '../_base_/recipes/cascade.py'

configs = dict(
    mim='../mae/mae_vit-micro-p4_1xb64-coslr-210e_digits-16px.py',
    cl='../mocov3/mocov3_vit-micro-p4_1xb64-coslr-75e_digits-16px.py',
    lgp='../layer_grafted/layer-grafted_vit-micro-p4_1xb64-coslr-75e_digits-16px.py',
    photos='../mae/mae_vit-mini-p4_1xb32-coslr-7e_photos-32px.py',
)

# the lengths of the configs are those of the cascade; digits say little about reconstruction, photographs show it
stages = [
    dict(name='mim', config='mim'),
    dict(name='cl', config='cl'),
    dict(name='cl_long', config='cl', share=1.85),
    dict(name='lgp', config='lgp', options={'model.graft': [dict(checkpoint='stage:mim')]}),
    dict(name='mim_photos', config='photos'),
]
report = dict(
    rows=[
        dict(name='MIM', stage='mim'),
        dict(name='CL, same epochs', stage='cl'),
        dict(name='CL, same time', stage='cl_long'),
        dict(name='LGP', stage='lgp'),
    ],
    comparison='The comparison of the paper: LGP against contrastive learning of the same length (CL, same epochs). LGP '
    'also had its masked stage, so the stricter one is with contrastive learning for the same total time (CL, same time).',
    maps=['MIM', 'CL, same time', 'LGP'],
    reconstruct=['mim', 'mim_photos'],
    titles=dict(mim_photos='MIM on photographs'),
)
