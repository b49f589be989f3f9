"""The Gaussian process: kernel, hyperparameters, fit, and the same model as BoTorch's."""
