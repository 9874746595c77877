"""Protection against attacks and overload."""
