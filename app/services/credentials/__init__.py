"""Password verification, password change and account closure."""
