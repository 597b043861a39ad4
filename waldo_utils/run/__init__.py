"""The notebooks run in order, and the pages that show what came out."""
