"""A folder of one's own: evaluated, trained on, its models exported."""
