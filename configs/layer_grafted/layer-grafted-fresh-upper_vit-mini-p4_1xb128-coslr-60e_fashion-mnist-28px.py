# blocks 4-5 and the final norm start anew (the official scratch_end)
_base_ = './layer-grafted_vit-mini-p4_1xb128-coslr-60e_fashion-mnist-28px.py'

model = dict(
    graft=[dict(checkpoint='work_dirs/mae_vit-mini-p4_1xb128-coslr-60e_fashion-mnist-28px/epoch_60.pth', layers=(0, 4))]
)
