# A2MIM's released fine-tuning of ConvNeXts at batch 4096, two steps of 2048: lr 4e-3, one rate for all layers
_base_ = './finetune_adamw_100e.py'

optim_wrapper = dict(
    optimizer=dict(lr=4e-3),
    accumulative_counts=2,
    paramwise_cfg=dict(
        _delete_=True,
        rules=[
            dict(match=r'(bn|ln|gn)(\d+)?\.(weight|bias)', decay_mult=0.0),
            dict(match='norm|bias|gamma', decay_mult=0.0),
        ],
    ),
)

param_scheduler = [dict(type='WarmupCosineLR', warmup=5, min_lr=1e-6, by_epoch=True, convert_to_iter_based=True)]
train_cfg = dict(max_epochs=300)
auto_scale_lr = dict(base_batch_size=2048, accumulated=2)
