"""Scorers of plans: what best-of-N and the tree search rank their candidates by, each a plug-in."""
