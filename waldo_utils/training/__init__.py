"""What a training step is (batches, losses, the loop, the validation that chooses), and the chain of all
seeds."""
