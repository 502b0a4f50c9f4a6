"""Text-conditioned video generators: they make plan videos, not trajectories."""
