_base_ = './finetune_vit-mini-p4.py'

model = dict(backbone=dict(type='TECViT', out_type='avg_featmap', final_norm=False))
