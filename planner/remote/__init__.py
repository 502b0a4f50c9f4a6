"""A planner in another process or on another machine, reached by the openpi wire."""
