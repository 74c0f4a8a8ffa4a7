"""Secret key rates of quantum key distribution: pure functions of numbers and arrays."""
