"""Files that are whole or absent: artifacts with their records, locks, resumable arrays, and faults told in
one line."""
