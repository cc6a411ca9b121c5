# MAE, TEC from it and its fine-tuning, on 8 GPUs
configs = dict(
    mim='../mae/mae_vit-base-p16_8xb512-amp-coslr-1600e_in1k.py',
    tec='../tec/tec-mae_vit-base-p16_8xb512-amp-coslr-300e_in1k.py',
    finetune_mim='../benchmarks/finetune/finetune-mae-own_vit-base-p16_8xb128-amp-coslr-100e_in1k.py',
    finetune_tec='../benchmarks/finetune/finetune-tec-mae-300e_vit-base-p16_8xb128-amp-coslr-100e_in1k.py',
)

stages = [
    dict(name='mim', config='mim'),
    dict(name='tec', config='tec', options={'model.base_checkpoint': 'stage:mim'}),
    dict(name='tec_finetuned', config='finetune_tec', checkpoint='stage:tec'),
    dict(name='mim_finetuned', config='finetune_mim', checkpoint='stage:mim'),
]

report = dict(reconstruct=['mim'])
