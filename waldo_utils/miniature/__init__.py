"""Rendered products: parametric objects and a small software renderer."""
