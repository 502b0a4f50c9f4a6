"""Cameras: one module per kind, each running in a process of its own."""
