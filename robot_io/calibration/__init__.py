"""Calibration of cameras: intrinsics, hand-eye, latency, and the files they leave."""
