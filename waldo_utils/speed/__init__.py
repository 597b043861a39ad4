"""What the machine takes: clocks that are fair, rates of this machine, and the benchmarks that are kept."""
