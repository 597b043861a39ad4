"""What a training step is, and the chain of all trainings."""
