# MIM->CL grafting: stem and blocks 0-3 stay as MIM left them (the official fixTo)
_base_ = './layer-grafted_vit-mini-p4_1xb128-coslr-60e_fashion-mnist-28px.py'

model = dict(frozen_layers=4)
