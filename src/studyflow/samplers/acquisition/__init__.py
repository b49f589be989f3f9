"""What a candidate is worth: closed forms for one objective, BoTorch's for several.

Nothing is imported here: `torch_acquisition` and `pareto` import torch.
"""
