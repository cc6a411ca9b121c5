# reconstructions of the first images, every 25 epochs and at the end: reconstructions/epoch_K.png
custom_hooks = [dict(type='ReconstructionHook', interval=25)]
