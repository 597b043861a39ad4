"""What a training step is: batches, losses, the loop, and the validation that chooses."""
