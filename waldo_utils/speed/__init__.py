"""Fair clocks, the rates of this machine, and the benchmarks that are kept."""
