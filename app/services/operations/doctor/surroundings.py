"""What stands before and beside the service: proxies, browsers, other workers."""

import os
import tempfile
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from urllib.parse import urlsplit

from app.config import Settings
from app.services.operations.doctor.findings import Finding, fault, ok, warning
from app.telemetry.workers import FOLDER_VARIABLE


def check_surroundings(settings: Settings) -> Iterator[Finding]:
    yield _proxies(settings)
    yield from _cookies(settings)
    yield _metrics_folder(settings)


def _proxies(settings: Settings) -> Finding:
    trusted = os.environ.get("FORWARDED_ALLOW_IPS", "")
    if settings.development:
        return ok("proxies", "none are expected in development")
    if not trusted:
        said = (
            "FORWARDED_ALLOW_IPS is unset: behind a proxy on another host, everybody has the proxy's address"
        )
        return warning("proxies", said)
    networks = [_network(each.strip()) for each in trusted.split(",")]
    if unknown := [each for each in networks if isinstance(each, str)]:
        said = f"FORWARDED_ALLOW_IPS has no address or network in {', '.join(unknown)}: it matches nobody"
        return warning("proxies", said)
    if not all(each.prefixlen for each in networks if not isinstance(each, str)):
        said = f"FORWARDED_ALLOW_IPS is {trusted}: whoever reaches the port chooses the address that we store"
        return warning("proxies", said)
    return ok("proxies", f"client addresses are believed from {trusted}")


def _network(text: str) -> IPv4Network | IPv6Network | str:
    """The text itself if uvicorn does not take it for an address or a network."""
    try:
        return ip_network("0.0.0.0/0" if text == "*" else text)
    except ValueError:
        return text


def _cookies(settings: Settings) -> Iterator[Finding]:
    origins = settings.cors_origins
    if not settings.auth_cookies:
        yield ok("cookies", "off; tokens travel in bodies and headers")
        return
    if not origins:
        yield ok("cookies", "for our own origin alone, as CORS_ORIGINS is empty")
        return
    plain = [] if settings.development else [each for each in origins if urlsplit(each).scheme == "http"]
    sites = {_site(origin) for origin in origins}
    if plain:
        yield fault("cookies", f"are Secure, so that a browser sends none to {', '.join(plain)}")
    if len(sites) > 1:
        said = f"are SameSite=Lax, and CORS_ORIGINS is of several sites: {', '.join(sorted(sites))}"
        yield warning("cookies", said)
    if not plain and len(sites) == 1:
        yield ok("cookies", f"for {', '.join(origins)}, where we are of the same site")


def _site(origin: str) -> str:
    """Approximates the registrable domain; an exact result needs the Public Suffix List."""
    host = urlsplit(origin).hostname or ""
    return ".".join(host.split(".")[-2:])


def _metrics_folder(settings: Settings) -> Finding:
    if settings.web_concurrency == 1:
        return ok("metrics", "one worker needs no shared folder")
    try:
        folder = Path(os.environ.get(FOLDER_VARIABLE) or tempfile.gettempdir())
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return fault("metrics", f"the workers cannot share a folder: {error}")
    return ok("metrics", f"the workers share a folder in {folder}")
