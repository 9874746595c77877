"""Pure functions and values, without database or HTTP: the part to audit."""
