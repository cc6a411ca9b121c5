# the same run in less memory per GPU
_base_ = ['./mae_vit-large-p16_8xb512-amp-coslr-1600e_in1k.py', '../_base_/fully_sharded.py']
