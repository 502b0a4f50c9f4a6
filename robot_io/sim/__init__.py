"""Meta-World on MuJoCo as an arm with cameras."""
