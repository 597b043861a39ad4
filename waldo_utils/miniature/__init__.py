"""Rendered products: parametric objects and a small renderer."""
