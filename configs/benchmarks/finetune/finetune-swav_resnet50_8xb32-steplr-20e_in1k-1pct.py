# SwAV's semi-supervised evaluation on 1 % of the labels: lr 0.02 for the encoder, 5 for the head
_base_ = './finetune-swav_resnet50_8xb32-steplr-20e_in1k-10pct.py'

train_dataloader = dict(dataset=dict(ann_file='data/imagenet_subsets/1percent.txt'))
optim_wrapper = dict(optimizer=dict(lr=0.02), paramwise_cfg=dict(head_lr_scale=250.0))
