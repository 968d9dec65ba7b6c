"""Unsupervised representations of states: methods and the linear-probe benchmark."""
