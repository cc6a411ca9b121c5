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
    dict(name='cl_long', config='cl', share=2),
    dict(name='lgp', config='lgp', options={'model.graft': [dict(checkpoint='stage:mim')]}),
    dict(name='mim_long', config='mim', share=2),
    dict(name='cl', config='cl'),
    dict(name='mim_photos', config='photos'),
]
report = dict(reconstruct=['mim_long', 'mim_photos'])
