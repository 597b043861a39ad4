"""Rendered products: parametric objects, photographed by a small software renderer (numpy, Pillow)."""
