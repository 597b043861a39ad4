"""Raw files to a checked manifest, and photos to a cache of decoded ones."""
