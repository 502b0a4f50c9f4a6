"""Recorded episodes on disk as LeRobotDataset v3: written safely, merged once, read lazily."""
