# MAE's fine-tuning: mean of the patches after the last block, a new norm, a linear head; the position table learns
_base_ = './finetune_vit-base-p16.py'

model = dict(backbone=dict(out_type='avg_featmap', final_norm=False, learn_positions=True))
