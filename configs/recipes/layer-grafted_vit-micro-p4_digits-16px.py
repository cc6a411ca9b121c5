_base_ = '../_base_/recipes/cascade.py'

configs = dict(
    mim='../mae/mae_vit-micro-p4_1xb64-coslr-70e_digits-16px.py',
    cl='../mocov3/mocov3_vit-micro-p4_1xb64-coslr-70e_digits-16px.py',
    lgp='../layer_grafted/layer-grafted_vit-micro-p4_1xb64-coslr-70e_digits-16px.py',
    photos='../mae/mae_vit-mini-p4_1xb32-coslr-10e_photos-32px.py',
)

# digits say little about reconstruction: one more small run shows it on photographs
stages = [*_base_.stages, dict(name='mim_photos', config='photos')]
report = dict(reconstruct=['mim_alone', 'mim_photos'])
