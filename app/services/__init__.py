"""The rules. They know neither HTTP nor the wire."""
