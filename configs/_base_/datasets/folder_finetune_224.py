# Any folder of images with a sub-folder per class, for fine-tuning; a fifth of every class is held out.
# --data-root also sets the number of classes.
_base_ = './imagenet_finetune_224.py'

data_preprocessor = dict(num_classes=2)
train_dataloader = dict(
    batch_size=64,
    num_workers=4,
    dataset=dict(
        _delete_=True, type='ImageFolder', data_root='data/images', subset='train', pipeline=_base_.train_pipeline
    ),
)
val_dataloader = dict(
    num_workers=4,
    dataset=dict(
        _delete_=True,
        type='ImageFolder',
        data_root='data/images',
        subset='test',
        test_mode=True,
        pipeline=_base_.test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = test_evaluator = dict(topk=(1,))
