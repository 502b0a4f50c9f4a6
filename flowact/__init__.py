"""Geometric action extraction: optical flow and depth in, object motion and end-effector targets out."""
