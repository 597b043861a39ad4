"""Pictures, from arrays and tables only."""
