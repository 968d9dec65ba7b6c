"""Metrics that the field needs and torchmetrics lacks."""
