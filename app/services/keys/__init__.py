"""Signing keys: read into memory, made, rotated, revoked, diagnosed."""
