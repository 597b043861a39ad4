"""The networks, the weights they start from, and the device they run on."""
