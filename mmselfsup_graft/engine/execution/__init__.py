"""How a model is executed: compiled, recomputed, sharded, in which precision."""
