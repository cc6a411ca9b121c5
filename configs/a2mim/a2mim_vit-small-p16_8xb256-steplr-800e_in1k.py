# A2MIM's ViT-S: 768 wide, 8 blocks, 8 heads
_base_ = './a2mim_vit-base-p16_8xb128-steplr-800e_in1k.py'

model = dict(backbone=dict(arch='small'))

train_dataloader = dict(batch_size=256)
optim_wrapper = dict(accumulative_counts=1)
auto_scale_lr = dict(base_batch_size=2048, accumulated=1)
