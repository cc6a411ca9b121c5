auto_scale_lr = dict(base_batch_size=128, enable=False)
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
            interpolation='bicubic',
            scale=(
                0.5,
                1.0,
            ),
            size=28,
            type='mmpretrain.torchvision/RandomResizedCrop'),
        dict(p=0.5, type='mmpretrain.torchvision/RandomHorizontalFlip'),
        dict(type='mmpretrain.PackInputs'),
    ],
    split='train',
    type='FashionMNIST')
default_hooks = dict(
    checkpoint=dict(interval=5, max_keep_ckpts=3, type='SafeCheckpointHook'),
    history=dict(interval=10, type='HistoryHook'),
    logger=dict(interval=100, type='LoggerHook'),
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
experiment_name = 'mim_f3f38c63'
launcher = 'none'
load_from = None
log_level = 'INFO'
model = dict(
    backbone=dict(
        arch=dict(
            embed_dims=64, feedforward_channels=256, num_heads=4,
            num_layers=6),
        img_size=28,
        in_channels=1,
        init='mae',
        patch_size=7,
        type='SelfSupViT'),
    head=dict(
        in_channels=1,
        loss=dict(criterion='L2', type='mmpretrain.PixelReconstructionLoss'),
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
    type='MAE')
optim_wrapper = dict(
    constructor='LayerWiseLRConstructor',
    optimizer=dict(
        betas=(
            0.9,
            0.95,
        ),
        fused=True,
        lr=0.002,
        type='AdamW',
        weight_decay=0.05),
    paramwise_cfg=dict(no_decay_1d=True),
    type='OptimWrapper')
param_scheduler = [
    dict(
        by_epoch=True,
        convert_to_iter_based=True,
        end=8,
        type='WarmupCosineLR',
        warmup=0.8),
]
randomness = dict(seed=0)
resume = True
train_cfg = dict(max_epochs=8, type='ResumableEpochLoop')
train_dataloader = dict(
    batch_size=128,
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        data_root='data/fashion_mnist',
        indices=6000,
        pipeline=[
            dict(channels=1, type='LoadImage'),
            dict(
                interpolation='bicubic',
                scale=(
                    0.5,
                    1.0,
                ),
                size=28,
                type='mmpretrain.torchvision/RandomResizedCrop'),
            dict(p=0.5, type='mmpretrain.torchvision/RandomHorizontalFlip'),
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
        interpolation='bicubic',
        scale=(
            0.5,
            1.0,
        ),
        size=28,
        type='mmpretrain.torchvision/RandomResizedCrop'),
    dict(p=0.5, type='mmpretrain.torchvision/RandomHorizontalFlip'),
    dict(type='mmpretrain.PackInputs'),
]
work_dir = 'work_dirs/study/seed_0/mim'
