# MoCo v2, SwAV and MoCo v3 for about the same CPU time, and SwAV grafted on SimMIM for the same time in all; see
# records/moco_swav_fashion_mnist
configs = dict(
    moco='../moco/moco-v2_resnet18-w16_1xb128-coslr-60e_fashion-mnist-28px.py',
    swav='../swav/swav_resnet18-w16_1xb128-coslr-60e_fashion-mnist-28px.py',
    mocov3='../mocov3/mocov3_resnet18-w16_1xb128-coslr-60e_fashion-mnist-28px.py',
    simmim='../simmim/simmim_resnet18-w16_1xb128-coslr-60e_fashion-mnist-28px.py',
    grafted='../swav/swav-grafted_resnet18-w16_1xb128-coslr-60e_fashion-mnist-28px.py',
)

# sized for two cores: 1,500 of the 60,000 training images, small batches for more steps, views made without PIL
options = {
    'train_dataloader.batch_size': 32,
    'train_dataloader.dataset.indices': 1500,
    'train_dataloader.dataset.fast': 'cpu',
    'evaluation.train.indices': 1500,
    'evaluation.linear': dict(augment=False, epochs=30, batch_size=256, selection='holdout'),
}

# a step costs 0.12 s as MoCo v2, 0.26 as SwAV, 0.20 as MoCo v3 and 0.09 as SimMIM: the shares give equal times
# the rate of MoCo v3 is the best of those tried; MoCo v2: batch norm in groups of 16, a queue of a third of the images
_swav = {'model.head.frozen_steps': 4}
stages = [
    dict(name='swav', config='swav', share=0.5, options=_swav),
    dict(name='simmim', config='simmim', share=0.375),
    dict(name='mocov3', config='mocov3', share=0.625, options={'optim_wrapper.optimizer.lr': 3e-3}),
    dict(
        name='grafted',
        config='grafted',
        share=0.375,
        options={**_swav, 'model.graft': [dict(checkpoint='stage:simmim')]},
    ),
    dict(name='moco', config='moco', options={'model.bn_groups': 2, 'model.queue_size': 512}),
]

report = dict(
    title='MoCo v2, SwAV and MoCo v3',
    rows=[
        dict(name='MoCo v2', stage='moco'),
        dict(name='SwAV', stage='swav'),
        dict(name='MoCo v3', stage='mocov3'),
        dict(name='SimMIM -> SwAV', stage='grafted'),
    ],
    maps=['MoCo v2', 'SwAV', 'SimMIM -> SwAV'],
    reconstruct=['simmim'],
)
