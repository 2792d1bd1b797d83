"""AION's own benchmarks, generated from a seed: a mix of 1,000 prompts and a coding agent's session of 200 steps."""
