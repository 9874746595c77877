"""Security-critical code without database or HTTP, kept small for audits."""
