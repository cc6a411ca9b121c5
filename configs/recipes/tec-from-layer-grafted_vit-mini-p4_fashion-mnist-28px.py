# Any model can be the next base model: TEC learns from Layer Grafted Pre-training.
configs = dict(
    mim='../mae/mae_vit-mini-p4_1xb128-coslr-60e_fashion-mnist-28px.py',
    lgp='../layer_grafted/layer-grafted_vit-mini-p4_1xb128-coslr-60e_fashion-mnist-28px.py',
    tec='../tec/tec_vit-mini-p4_1xb128-coslr-60e_fashion-mnist-28px.py',
)

stages = [
    dict(name='mim', config='mim', share=0.5),
    dict(name='lgp', config='lgp', share=0.5, options={'model.graft': [dict(checkpoint='stage:mim')]}),
    dict(name='tec', config='tec', share=0.5, options={'model.base_checkpoint': 'stage:lgp'}),
]

report = dict(
    rows=[
        dict(name='MAE', stage='mim'),
        dict(name='LGP', stage='lgp'),
        dict(name='LGP->TEC', stage='tec'),
    ],
    reconstruct=['mim'],
)
