# ImageNet-100, laid out like ImageNet, for fine-tuning
_base_ = './imagenet_finetune_224.py'

data_preprocessor = dict(num_classes=100)
train_dataloader = dict(dataset=dict(data_root='data/imagenet100'))
val_dataloader = dict(dataset=dict(data_root='data/imagenet100'))
test_dataloader = val_dataloader
