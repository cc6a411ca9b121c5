_base_ = [
    '../../_base_/models/frozen_vit-mini-p8_64.py',
    '../../_base_/evaluation/folder_few_shot_64.py',
    '../../_base_/default_runtime.py',
]
