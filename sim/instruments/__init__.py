"""Command sets of the simulated instruments, one module or a few for each kind."""
