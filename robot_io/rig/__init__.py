"""The rig of one arm with its cameras, described in a file: real, or with an emulated controller behind it."""
