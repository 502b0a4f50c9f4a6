"""Controlled comparisons: several arms over the same scenes, and only such claims as the numbers allow."""
