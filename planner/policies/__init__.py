"""Small policies to compare a cascade with: they say the motion themselves, with or without imagining it."""
