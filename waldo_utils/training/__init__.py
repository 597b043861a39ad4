"""What a training step is, and the chain of trainings: batches, losses, the loop, the validation that chooses."""
