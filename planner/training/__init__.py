"""Training of the embedded planner: auto-encoder, regression, rectified flow, readout."""
