# MIM->CL grafting: stem and blocks 0-7 stay as MIM left them (the official fixTo)
_base_ = './layer-grafted_vit-base-p16_64xb64-amp-coslr-300e_in1k.py'

model = dict(frozen_layers=8)
