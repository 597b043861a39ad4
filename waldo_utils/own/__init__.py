"""A folder of one's own: how good models are on it, models trained on it, and models for other programs."""
