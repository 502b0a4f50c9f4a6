"""The process that owns an arm: targets in, safe setpoints out, at a fixed rate."""
