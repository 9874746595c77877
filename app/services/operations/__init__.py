"""Audit trail, cleanup, diagnosis and health checks."""
