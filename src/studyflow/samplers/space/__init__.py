"""The search space as the model sees it: parameters, codes, features."""
