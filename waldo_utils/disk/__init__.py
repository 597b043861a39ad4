"""Files that are whole or absent, their records, locks, and faults told in one line."""
