# A2MIM's and SimMIM's released fine-tuning of ViTs at batch 1024: lr 2.5e-3 * 1024 / 256, layer decay, cosine to 1e-6
# for all layers, which also bends the warm-up; no decay of norms, biases, embeddings and layer scales
_base_ = './finetune_adamw_100e.py'

optim_wrapper = dict(
    optimizer=dict(lr=1e-2),
    clip_grad=dict(max_norm=5.0),
    paramwise_cfg=dict(
        _delete_=True,
        layer_wise_decay_ratio=0.65,
        rules=[
            dict(match=r'(bn|ln|gn)(\d+)?\.(weight|bias)', decay_mult=0.0),
            dict(match=r'norm|bias|pos_embed|cls_token|gamma', decay_mult=0.0),
        ],
    ),
)

param_scheduler = [
    dict(
        type='WarmupCosineLR',
        warmup=20,
        min_lr=1e-6,
        cosine_in_warmup=True,
        by_epoch=True,
        convert_to_iter_based=True,
    )
]
