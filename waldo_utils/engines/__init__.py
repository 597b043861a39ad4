"""Doors to engines that need more than one machine, each imported only when asked: torchrun, Ray, Qdrant."""
