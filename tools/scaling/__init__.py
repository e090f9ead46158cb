"""The parts of tools/simulate_scaling."""
