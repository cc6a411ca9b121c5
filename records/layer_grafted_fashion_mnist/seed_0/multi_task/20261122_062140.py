auto_scale_lr = dict(base_batch_size=128, enable=False)
contrast = dict(
    head=dict(
        predictor=dict(
            hid_channels=256,
            in_channels=64,
            norm_cfg=dict(type='PortableSyncBN'),
            num_layers=2,
            out_channels=64,
            type='mmpretrain.NonLinearNeck',
            with_avg_pool=False,
            with_bias=False,
            with_last_bias=False,
            with_last_bn=True,
            with_last_bn_affine=False),
        temperature=0.2,
        type='ContrastiveHead'),
    neck=dict(
        hid_channels=256,
        in_channels=64,
        norm_cfg=dict(type='PortableSyncBN'),
        num_layers=3,
        out_channels=64,
        type='mmpretrain.NonLinearNeck',
        with_avg_pool=False,
        with_bias=False,
        with_last_bias=False,
        with_last_bn=True,
        with_last_bn_affine=False),
    type='MoCoV3')
custom_hooks = [
    dict(interval=50, type='GradientConflictHook'),
]
data_preprocessor = dict(
    mean=[
        72.9404,
    ],
    std=[
        90.0212,
    ],
    to_rgb=False,
    type='mmpretrain.SelfSupDataPreprocessor')
dataset = dict(
    data_root='data/fashion_mnist',
    pipeline=[
        dict(channels=1, type='LoadImage'),
        dict(
            type='TwoViews',
            view1=[
                dict(
                    interpolation='bilinear',
                    scale=(
                        0.3,
                        1.0,
                    ),
                    size=28,
                    type='mmpretrain.torchvision/RandomResizedCrop'),
                dict(
                    p=0.8,
                    transforms=[
                        dict(
                            brightness=0.4,
                            contrast=0.4,
                            type='mmpretrain.torchvision/ColorJitter'),
                    ],
                    type='RandomApply'),
                dict(p=0.5, radius=(
                    0.1,
                    1.0,
                ), type='PILGaussianBlur'),
                dict(
                    p=0.5, type='mmpretrain.torchvision/RandomHorizontalFlip'),
            ],
            view2=[
                dict(
                    interpolation='bilinear',
                    scale=(
                        0.3,
                        1.0,
                    ),
                    size=28,
                    type='mmpretrain.torchvision/RandomResizedCrop'),
                dict(
                    p=0.8,
                    transforms=[
                        dict(
                            brightness=0.4,
                            contrast=0.4,
                            type='mmpretrain.torchvision/ColorJitter'),
                    ],
                    type='RandomApply'),
                dict(p=0.5, radius=(
                    0.1,
                    1.0,
                ), type='PILGaussianBlur'),
                dict(
                    p=0.5, type='mmpretrain.torchvision/RandomHorizontalFlip'),
            ]),
        dict(type='mmpretrain.PackInputs'),
    ],
    split='train',
    type='FashionMNIST')
decoder = dict(
    decoder_depth=2,
    decoder_embed_dim=64,
    decoder_num_heads=4,
    embed_dim=64,
    in_chans=1,
    num_patches=16,
    patch_size=4)
default_hooks = dict(
    checkpoint=dict(interval=5, max_keep_ckpts=3, type='SafeCheckpointHook'),
    collapse=dict(
        parts=[
            'backbone',
            'objectives.cl.neck',
        ], type='CollapseHook'),
    history=dict(interval=10, type='HistoryHook'),
    logger=dict(interval=100, type='LoggerHook'),
    momentum=dict(type='MomentumScheduleHook'),
    nonfinite=dict(interval=50, type='NonFiniteLossHook'),
    param_scheduler=dict(type='ParamSchedulerHook'),
    random_state=dict(type='RandomStateHook'),
    runtime_info=dict(type='RuntimeInfoHook'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    timer=dict(type='IterTimerHook'))
default_scope = 'mmselfsup_graft'
env_cfg = dict(
    cudnn_benchmark=True,
    dist_cfg=dict(backend='nccl'),
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0))
evaluation = dict(
    few_shot=dict(draws=10, shots=[
        1,
        2,
        5,
        10,
        20,
        60,
    ]),
    knn=dict(k=[
        20,
    ]),
    linear=dict(augment=False, batch_size=256, epochs=30, selection='holdout'),
    test=dict(
        pipeline=[
            dict(channels=1, type='LoadImage'),
            dict(type='mmpretrain.PackInputs'),
        ],
        split='test',
        type='FashionMNIST'),
    train=dict(
        indices=6000,
        pipeline=[
            dict(channels=1, type='LoadImage'),
            dict(type='mmpretrain.PackInputs'),
        ],
        split='train',
        type='FashionMNIST'))
evaluation_pipeline = [
    dict(channels=1, type='LoadImage'),
    dict(type='mmpretrain.PackInputs'),
]
experiment_name = 'multi_task_9f6b1b22'
launcher = 'none'
load_from = None
log_level = 'INFO'
masked = dict(
    head=dict(
        in_channels=1,
        loss=dict(criterion='L2', type='mmpretrain.PixelReconstructionLoss'),
        norm_pix=False,
        patch_size=4,
        type='mmpretrain.MAEPretrainHead'),
    mask_ratio=0.75,
    neck=dict(
        decoder_depth=2,
        decoder_embed_dim=64,
        decoder_num_heads=4,
        embed_dim=64,
        in_chans=1,
        num_patches=16,
        patch_size=4,
        type='MAEDecoder'),
    type='MAE')
mim_view = [
    dict(
        interpolation='bicubic',
        scale=(
            0.5,
            1.0,
        ),
        size=28,
        type='mmpretrain.torchvision/RandomResizedCrop'),
    dict(p=0.5, type='mmpretrain.torchvision/RandomHorizontalFlip'),
]
model = dict(
    backbone=dict(
        arch=dict(
            embed_dims=64, feedforward_channels=256, num_heads=4,
            num_layers=6),
        img_size=28,
        in_channels=1,
        init='mae',
        patch_size=7,
        stop_grad_patch_embed=False,
        type='SelfSupViT'),
    objectives=dict(
        cl=dict(
            model=dict(
                head=dict(
                    predictor=dict(
                        hid_channels=256,
                        in_channels=64,
                        norm_cfg=dict(type='PortableSyncBN'),
                        num_layers=2,
                        out_channels=64,
                        type='mmpretrain.NonLinearNeck',
                        with_avg_pool=False,
                        with_bias=False,
                        with_last_bias=False,
                        with_last_bn=True,
                        with_last_bn_affine=False),
                    temperature=0.2,
                    type='ContrastiveHead'),
                neck=dict(
                    hid_channels=256,
                    in_channels=64,
                    norm_cfg=dict(type='PortableSyncBN'),
                    num_layers=3,
                    out_channels=64,
                    type='mmpretrain.NonLinearNeck',
                    with_avg_pool=False,
                    with_bias=False,
                    with_last_bias=False,
                    with_last_bn=True,
                    with_last_bn_affine=False),
                type='MoCoV3'),
            views=[
                0,
                1,
            ],
            weight=1.0),
        mim=dict(
            model=dict(
                head=dict(
                    in_channels=1,
                    loss=dict(
                        criterion='L2',
                        type='mmpretrain.PixelReconstructionLoss'),
                    norm_pix=False,
                    patch_size=7,
                    type='mmpretrain.MAEPretrainHead'),
                mask_ratio=0.75,
                neck=dict(
                    decoder_depth=2,
                    decoder_embed_dim=64,
                    decoder_num_heads=4,
                    embed_dim=64,
                    in_chans=1,
                    num_patches=16,
                    patch_size=7,
                    type='MAEDecoder'),
                type='MAE'),
            views=2,
            weight=1.0)),
    type='MultiTask')
optim_wrapper = dict(
    constructor='LayerWiseLRConstructor',
    optimizer=dict(
        betas=(
            0.9,
            0.999,
        ),
        fused=True,
        lr=0.004,
        type='AdamW',
        weight_decay=0.1),
    paramwise_cfg=dict(),
    type='OptimWrapper')
param_scheduler = [
    dict(
        by_epoch=True,
        convert_to_iter_based=True,
        end=16,
        type='WarmupCosineLR',
        warmup=1.6),
]
randomness = dict(seed=0)
resume = True
train_cfg = dict(max_epochs=16, type='ResumableEpochLoop')
train_dataloader = dict(
    batch_size=128,
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        data_root='data/fashion_mnist',
        indices=6000,
        pipeline=[
            dict(channels=1, type='LoadImage'),
            dict(
                type='Views',
                views=[
                    [
                        dict(
                            interpolation='bilinear',
                            scale=(
                                0.3,
                                1.0,
                            ),
                            size=28,
                            type='mmpretrain.torchvision/RandomResizedCrop'),
                        dict(
                            p=0.8,
                            transforms=[
                                dict(
                                    brightness=0.4,
                                    contrast=0.4,
                                    type='mmpretrain.torchvision/ColorJitter'),
                            ],
                            type='RandomApply'),
                        dict(
                            p=0.5, radius=(
                                0.1,
                                1.0,
                            ), type='PILGaussianBlur'),
                        dict(
                            p=0.5,
                            type='mmpretrain.torchvision/RandomHorizontalFlip'
                        ),
                    ],
                    [
                        dict(
                            interpolation='bilinear',
                            scale=(
                                0.3,
                                1.0,
                            ),
                            size=28,
                            type='mmpretrain.torchvision/RandomResizedCrop'),
                        dict(
                            p=0.8,
                            transforms=[
                                dict(
                                    brightness=0.4,
                                    contrast=0.4,
                                    type='mmpretrain.torchvision/ColorJitter'),
                            ],
                            type='RandomApply'),
                        dict(
                            p=0.5, radius=(
                                0.1,
                                1.0,
                            ), type='PILGaussianBlur'),
                        dict(
                            p=0.5,
                            type='mmpretrain.torchvision/RandomHorizontalFlip'
                        ),
                    ],
                    [
                        dict(
                            interpolation='bicubic',
                            scale=(
                                0.5,
                                1.0,
                            ),
                            size=28,
                            type='mmpretrain.torchvision/RandomResizedCrop'),
                        dict(
                            p=0.5,
                            type='mmpretrain.torchvision/RandomHorizontalFlip'
                        ),
                    ],
                ]),
            dict(type='mmpretrain.PackInputs'),
        ],
        split='train',
        type='FashionMNIST'),
    drop_last=True,
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    sampler=dict(shuffle=True, type='SeededSampler'))
train_pipeline = [
    dict(channels=1, type='LoadImage'),
    dict(
        type='Views',
        views=[
            [
                dict(
                    interpolation='bilinear',
                    scale=(
                        0.3,
                        1.0,
                    ),
                    size=28,
                    type='mmpretrain.torchvision/RandomResizedCrop'),
                dict(
                    p=0.8,
                    transforms=[
                        dict(
                            brightness=0.4,
                            contrast=0.4,
                            type='mmpretrain.torchvision/ColorJitter'),
                    ],
                    type='RandomApply'),
                dict(p=0.5, radius=(
                    0.1,
                    1.0,
                ), type='PILGaussianBlur'),
                dict(
                    p=0.5, type='mmpretrain.torchvision/RandomHorizontalFlip'),
            ],
            [
                dict(
                    interpolation='bilinear',
                    scale=(
                        0.3,
                        1.0,
                    ),
                    size=28,
                    type='mmpretrain.torchvision/RandomResizedCrop'),
                dict(
                    p=0.8,
                    transforms=[
                        dict(
                            brightness=0.4,
                            contrast=0.4,
                            type='mmpretrain.torchvision/ColorJitter'),
                    ],
                    type='RandomApply'),
                dict(p=0.5, radius=(
                    0.1,
                    1.0,
                ), type='PILGaussianBlur'),
                dict(
                    p=0.5, type='mmpretrain.torchvision/RandomHorizontalFlip'),
            ],
            [
                dict(
                    interpolation='bicubic',
                    scale=(
                        0.5,
                        1.0,
                    ),
                    size=28,
                    type='mmpretrain.torchvision/RandomResizedCrop'),
                dict(
                    p=0.5, type='mmpretrain.torchvision/RandomHorizontalFlip'),
            ],
        ]),
    dict(type='mmpretrain.PackInputs'),
]
view = [
    dict(
        interpolation='bilinear',
        scale=(
            0.3,
            1.0,
        ),
        size=28,
        type='mmpretrain.torchvision/RandomResizedCrop'),
    dict(
        p=0.8,
        transforms=[
            dict(
                brightness=0.4,
                contrast=0.4,
                type='mmpretrain.torchvision/ColorJitter'),
        ],
        type='RandomApply'),
    dict(p=0.5, radius=(
        0.1,
        1.0,
    ), type='PILGaussianBlur'),
    dict(p=0.5, type='mmpretrain.torchvision/RandomHorizontalFlip'),
]
work_dir = 'work_dirs/study/seed_0/multi_task'
