# Weights, gradients and optimizer state sharded over the processes, and activations recomputed block by block: for
# models that do not fit otherwise. On one process the first line has no effect. See docs/scale.md.
model_wrapper_cfg = dict(type='FullySharded')
activation_checkpointing = True
