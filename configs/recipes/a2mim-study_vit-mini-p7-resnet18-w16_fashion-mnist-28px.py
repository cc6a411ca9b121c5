# A2MIM beside SimMIM on a ViT and on a ResNet, at equal numbers of epochs; tools/finetune.py then tunes each on few labels.
configs = dict(
    simmim_vit='../simmim/simmim_vit-mini-p4_1xb128-coslr-60e_fashion-mnist-28px.py',
    a2mim_vit='../a2mim/a2mim_vit-mini-p4_1xb128-coslr-60e_fashion-mnist-28px.py',
    simmim_resnet='../simmim/simmim_resnet18-w16_1xb128-coslr-60e_fashion-mnist-28px.py',
    a2mim_resnet='../a2mim/a2mim_resnet18-w16_1xb128-coslr-60e_fashion-mnist-28px.py',
)

# sized for two cores: 6,000 of the 60,000 training images, and patches of 7 pixels for the ViT
options = {'train_dataloader.dataset.indices': 6000}
_vit = {
    'model.backbone.patch_size': 7,
    'model.mask_patch': 7,
    'model.neck.stride': 7,
    'optim_wrapper.optimizer.lr': 2e-3,
}

stages = [
    dict(name='simmim_vit', config='simmim_vit', options=_vit),
    dict(name='a2mim_vit', config='a2mim_vit', options=_vit),
    dict(name='simmim_resnet', config='simmim_resnet'),
    dict(name='a2mim_resnet', config='a2mim_resnet'),
]

# no table: features of masked image modeling are made for fine-tuning
report = dict(reconstruct=['simmim_vit', 'a2mim_vit', 'simmim_resnet', 'a2mim_resnet'])
