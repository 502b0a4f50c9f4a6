"""Command line of cascade."""
