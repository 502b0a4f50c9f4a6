"""Two ways of reading a plan, and who of them is followed: inverse dynamics, object motion, or both by agreement."""
