# SimMIM's recipe for ResNets and ConvNeXts in A2MIM's release, half precision, batch 2048: lr 2e-4 * 2048 / 512. Norms,
# layer scales, biases and the mask token are not decayed, the token learns at a tenth of the rate.
_base_ = './a2mim_adamw_convnext_300e.py'

optim_wrapper = dict(optimizer=dict(lr=8e-4))
