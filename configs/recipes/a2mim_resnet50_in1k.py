# A2MIM for a ResNet-50 and two fine-tunings, on 8 GPUs
configs = dict(
    a2mim='../a2mim/a2mim_resnet50_8xb256-coslr-300e_in1k.py',
    rsb_a2='../benchmarks/finetune/finetune-rsb-a2_resnet50_8xb256-amp-coslr-300e_in1k.py',
    rsb_a3='../benchmarks/finetune/finetune-rsb-a3_resnet50_8xb256-amp-coslr-100e_in1k-160px.py',
)

stages = [
    dict(name='a2mim', config='a2mim'),
    dict(name='rsb_a3', config='rsb_a3', checkpoint='stage:a2mim'),
    dict(name='rsb_a2', config='rsb_a2', checkpoint='stage:a2mim'),
]

report = dict(reconstruct=['a2mim'])
