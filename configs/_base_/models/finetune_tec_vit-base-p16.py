# TEC's fine-tuning: the class token still made by its MLP, mean of the patches after the last block, a norm, a linear head
_base_ = './finetune_vit-base-p16.py'

model = dict(backbone=dict(type='TECViT', out_type='avg_featmap', final_norm=False))
