"""Cascaded World Action Model: imagine a task as video, read the motion from it, move an arm, see why."""

__version__ = "0.1.0"
