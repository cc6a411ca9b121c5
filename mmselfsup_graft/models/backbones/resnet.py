"""ResNets of all published depths."""

from mmpretrain.models import ResNet

from mmselfsup_graft.registry import MODELS


@MODELS.register_module()
class SelfSupResNet(ResNet):
    """mmpretrain's ResNet (stride in the 3x3 convolution, plain stem) with a depth more, 200."""

    arch_settings = {**ResNet.arch_settings, 200: (ResNet.arch_settings[152][0], (3, 24, 36, 3))}
