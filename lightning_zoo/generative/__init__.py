"""Generative models of images: variational autoencoders, with and without an adversary, and channel recurrency."""
