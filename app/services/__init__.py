"""Business rules, without a web framework."""
