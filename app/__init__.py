"""Kanban Auth Service."""
