"""Tools of the study "Where's Waldo? Instance-level image retrieval"; the notebooks call them."""
