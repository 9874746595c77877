"""Login sessions: login, tokens, rotation and revocation."""
