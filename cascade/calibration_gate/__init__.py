"""What the gate's thresholds and `p_exec` are fitted on: plans good and spoiled, followed in simulation, and judged."""
