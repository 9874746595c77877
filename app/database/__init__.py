"""PostgreSQL: connections, statements, transactions and errors."""
