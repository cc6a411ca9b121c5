# What to do with a trained MAE: train it on, or learn a new model from it (TEC), which sees the images equally often; and graft
# contrastive learning on that, for as long again.
configs = dict(
    mim='../mae/mae_vit-mini-p4_1xb128-coslr-60e_fashion-mnist-28px.py',
    tec='../tec/tec_vit-mini-p4_1xb128-coslr-60e_fashion-mnist-28px.py',
    lgp='../layer_grafted/layer-grafted_vit-mini-p4_1xb128-coslr-60e_fashion-mnist-28px.py',
)

stages = [
    dict(name='mim', config='mim', share=0.5),
    dict(name='mim_on', config='mim', share=0.5, options={'load_from': 'stage:mim'}),
    dict(name='tec', config='tec', share=0.5, options={'model.base_checkpoint': 'stage:mim'}),
    dict(name='tec_cl', config='lgp', share=0.5, options={'model.graft': [dict(checkpoint='stage:tec')]}),
]

report = dict(
    rows=[
        dict(name='MAE', stage='mim'),
        dict(name='MAE, on', stage='mim_on'),
        dict(name='MAE->TEC', stage='tec'),
        dict(name='MAE->TEC->CL', stage='tec_cl'),
    ],
    reconstruct=['mim_on'],
)
