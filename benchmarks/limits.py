"""The baseline for the service: a minimal FastAPI application with the same response."""

import os

from fastapi import FastAPI
from psycopg2.pool import ThreadedConnectionPool
from pydantic import BaseModel

app = FastAPI()


class User(BaseModel):
    id: int
    email: str
    role: str
    is_active: bool
    created_at: str


def _pool() -> ThreadedConnectionPool:
    return ThreadedConnectionPool(10, 40, os.environ["LIBPQ_URL"])


pool = _pool()


@app.get("/static")
async def static() -> User:
    return User(id=1, email="ada@example.com", role="user", is_active=True, created_at="2026-01-01T00:00:00Z")


@app.get("/select")
def select() -> User:
    connection = pool.getconn()
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT id, email, role, is_active, created_at FROM users WHERE id = %s", (1,))
            id_, email, role, is_active, created_at = cursor.fetchall()[0]
    finally:
        pool.putconn(connection)
    return User(id=id_, email=email, role=role, is_active=is_active, created_at=created_at.isoformat())
