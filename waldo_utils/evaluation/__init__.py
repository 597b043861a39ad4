"""Hits to numbers with intervals, and the tables that hold them beside the reported figures."""
