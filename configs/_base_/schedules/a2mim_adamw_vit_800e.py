# A2MIM's and SimMIM's released recipe for ViTs, batch 2048: lr 1e-4 * 2048 / 512, a tenth of it from epoch 700 on; no
# decay of norms, biases and relative-bias tables, embeddings, tokens and layer scales
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=4e-4, betas=(0.9, 0.999), weight_decay=0.05, fused=True),
    clip_grad=dict(max_norm=5.0),
    constructor='LayerWiseLRConstructor',
    paramwise_cfg=dict(
        rules=[
            dict(match=r'(bn|ln|gn)(\d+)?\.(weight|bias)', decay_mult=0.0),
            dict(match=r'norm|bias|pos_embed|cls_token|mask_token|gamma', decay_mult=0.0),
        ]
    ),
)

# as released: from the 2e-6th part of the rate over 10 epochs, then constant
param_scheduler = [
    dict(type='LinearLR', start_factor=2e-6, begin=0, end=10, by_epoch=True, convert_to_iter_based=True),
    dict(type='MultiStepLR', milestones=[700], gamma=0.1, by_epoch=True),
]
train_cfg = dict(type='ResumableEpochLoop', max_epochs=800)
auto_scale_lr = dict(enable=False, base_batch_size=2048)
