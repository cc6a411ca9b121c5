# The released script always normalizes with mean and deviation 0.5; it is unknown which one gave the published numbers.
_base_ = './finetune_vit-base-p16_8xb128-amp-coslr-100e_in1k.py'

data_preprocessor = dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5])
