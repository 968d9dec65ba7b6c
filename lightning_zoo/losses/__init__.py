"""Formulas as pure functions, with shapes and equation numbers."""
