"""Doors to torchrun, Ray and Qdrant, each imported only when asked."""
