"""The fused sampled losses, a file for each; ``fastnce/__init__.py`` exports them."""
