# The released script always normalizes with mean and deviation 0.5; which one made the published numbers is not known.
_base_ = './finetune_vit-base-p16_8xb128-amp-coslr-100e_in1k.py'

data_preprocessor = dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5])
