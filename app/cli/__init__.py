"""Commands for operators: `python -m app.cli --help`. They work while the service runs."""
