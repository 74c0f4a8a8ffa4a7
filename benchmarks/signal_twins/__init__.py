"""Fast twins of what the signal stages see: no instruments, no formula of the stages they judge."""
