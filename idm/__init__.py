"""Learned inverse dynamics: video frames in, end-effector motion out."""
