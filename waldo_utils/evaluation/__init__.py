"""Hits to numbers with intervals, and the tables that hold them."""
