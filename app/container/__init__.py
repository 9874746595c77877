"""Builds the services from the settings, for the web application, the command line and the tests.

There is a class for each folder of `services/`; it extends the class of the folder that it may import.
"""

from app.container.foundation import VERSION
from app.container.sessions import SessionServices

__all__ = ["VERSION", "Container"]


class Container(SessionServices):
    """Creates each service on first access and caches it."""
