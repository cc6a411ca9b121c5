# from iBOT's ViT-B; of a full training file its teacher is taken
_base_ = './tec-mae_vit-base-p16_8xb512-amp-coslr-300e_in1k.py'

model = dict(
    base_model=dict(topk=9),
    base_checkpoint='checkpoints/ibot_vit_base_checkpoint_teacher.pth',
    head=dict(tau=1.0),
)
