"""What the service tells others: revocations for sibling services."""
