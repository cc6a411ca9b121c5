# the same run in less memory per GPU: 512 images per process without accumulating, which negatives would notice
_base_ = ['./mocov3_vit-large-p16_8xb512-amp-coslr-300e_in1k.py', '../_base_/fully_sharded.py']
