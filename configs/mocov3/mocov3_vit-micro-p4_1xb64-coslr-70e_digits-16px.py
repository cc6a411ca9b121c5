# 70 epochs instead of 75, the length of earlier versions
_base_ = './mocov3_vit-micro-p4_1xb64-coslr-75e_digits-16px.py'

train_cfg = dict(max_epochs=70)
