# the quick start with one more row, masked image modeling for the time of both stages; see records/quickstart_digits
_base_ = './layer-grafted_vit-micro-p4_digits-16px.py'

stages = [*_base_.stages, dict(name='mim_long', config='mim', share=2)]
report = dict(rows=[*_base_.report.rows, dict(name='MIM, same time', stage='mim_long')])
