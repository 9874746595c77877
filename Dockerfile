ARG PYTHON_VERSION=3.12

FROM python:${PYTHON_VERSION}-slim AS base
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /srv
RUN useradd --system --uid 10001 --no-create-home --home-dir /nonexistent auth
STOPSIGNAL SIGTERM
EXPOSE 8000
# Whether the process answers, and not its database: a restart of ours would not bring that one back.
HEALTHCHECK --interval=10s --timeout=5s --start-period=90s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/api/v1/health/live', timeout=4)"]
CMD ["python", "-m", "app.serve", "--host", "0.0.0.0"]


FROM base AS dependencies
# For strip, in this stage alone.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends binutils && rm -rf /var/lib/apt/lists/*
# main, or tracing for an image that can send traces
ARG REQUIREMENTS=main
COPY requirements/${REQUIREMENTS}.txt requirements/
# Wheels bring debug symbols: a fifth of all that is installed, most of it uvloop's and SQLAlchemy's.
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv --without-pip /opt/venv && \
    pip --python /opt/venv/bin/python install --no-deps --require-hashes -r requirements/${REQUIREMENTS}.txt && \
    find /opt/venv -name '*.so' -exec strip --strip-debug {} +


FROM dependencies AS dev-dependencies
COPY requirements/dev.txt requirements/
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/venv/bin/python install --no-deps --require-hashes -r requirements/dev.txt


FROM base AS dev
COPY --from=dev-dependencies /opt/venv /opt/venv
RUN mkdir .data && chown 10001 . .data
COPY --chown=10001 . .
USER 10001


FROM base AS production
COPY --from=dependencies /opt/venv /opt/venv
COPY LICENSE alembic.ini pyproject.toml ./
COPY alembic alembic
COPY app app
# What runs is read-only, and the base image's own library is not compiled: without this each start and each
# health check compiles what they import of it.
RUN python -m compileall -q alembic app && \
    PYTHONDONTWRITEBYTECODE='' python -c "import app.cli.__main__, app.serve, urllib.request, uvicorn.main"
USER 10001
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Kanban Auth Service" \
      org.opencontainers.image.description="Registration, login, rotating refresh tokens and JWT access tokens" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="MIT"
