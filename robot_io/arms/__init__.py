"""Drivers of arms: one module per vendor, each running inside the process that owns the arm."""
