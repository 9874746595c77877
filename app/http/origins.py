"""Whether a request comes from one of our own pages, by what its browser says."""

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request

from app.http.proxies import is_from_proxy

_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}
_PORT: Final = re.compile(r":\d+$")
_FORWARDED_HOST: Final = re.compile(r'\bhost="?([^";, ]+)', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class OwnOrigins:
    """Origins of our pages beside the one that the request was sent to; `pattern` matches more of them.

    `nearby`: where a browser says no more than its Origin, a page of the local network is ours. `public_host`
    is where browsers reach us, if a setting says so.
    """

    origins: tuple[str, ...]
    pattern: re.Pattern[str] | None
    nearby: bool
    public_host: str | None

    def is_cross_site(self, request: Request, *, signs_out: bool = False) -> bool:
        """By the headers Sec-Fetch-Site and Origin. Without both, the client is not a browser: False.

        `signs_out`: a logout to which the browser has added a cookie of ours, and so one from our site by
        SameSite (RFC 6265bis §5.6.7.1). In doubt it is done, lest a shared computer stays signed in.
        """
        site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
        if site in ("same-origin", "none") or (site is None and origin is None):
            return False
        if origin is None:
            return True
        if origin in self.origins or (self.pattern and self.pattern.fullmatch(origin)):
            return False
        hosts = _hosts_of(request, believing=is_from_proxy(request))
        if _is_one_of(origin, hosts, request.url.scheme):
            return False
        in_doubt = site is None and (self.nearby or signs_out)
        return not (in_doubt and self._could_be_ours(origin, request, hosts, signs_out=signs_out))

    def _could_be_ours(self, origin: str, request: Request, hosts: list[str], *, signs_out: bool) -> bool:
        public = [self.public_host] if self.public_host else []
        if _is_near(origin, _hosts_of(request, believing=True) + public):
            return True
        return signs_out and _is_of_our_site(origin, hosts[0], hosts[1:] + public)


def _hosts_of(request: Request, *, believing: bool) -> list[str]:
    """What Host says, and X-Forwarded-Host and Forwarded (RFC 7239 §5.3) of a proxy that is believed."""
    headers = request.headers
    hosts = [request.url.netloc]
    if believing:
        forwarded = ",".join(headers.getlist("x-forwarded-host")).split(",")
        hosts += [host.strip() for host in forwarded if host.strip()]
        hosts += _FORWARDED_HOST.findall(",".join(headers.getlist("forwarded")))
    return [host.lower() for host in hosts]


def _is_one_of(origin: str, hosts: list[str], own_scheme: str) -> bool:
    """With https also where we are asked by http, because a proxy may terminate TLS.

    A proxy may name the default port, or leave any other out. That costs nothing: a host's cookies are sent
    to all of its ports (RFC 6265 §8.5).
    """
    scheme, _, authority = origin.partition("://")
    if scheme not in (own_scheme, "https") or scheme not in _DEFAULT_PORTS:
        return False
    canonical = {host.removesuffix(_DEFAULT_PORTS[scheme]) for host in hosts}
    return authority in canonical or _PORT.sub("", authority) in canonical


def _is_near(origin: str, hosts: list[str]) -> bool:
    """On one of the hosts, on any port, or in the local network."""
    scheme, _, authority = origin.partition("://")
    name = _PORT.sub("", authority)
    if scheme not in _DEFAULT_PORTS:
        return False
    return name in map(_name_of, hosts) or (scheme == "http" and _is_nearby(name))


def _is_of_our_site(origin: str, asked: str, told: list[str]) -> bool:
    """Whether a page that sent our cookie could be: not if we are `told` of public hosts, it being none.

    A public name that was `asked` for may be a proxy's for us, so one of the same site counts. (Roughly: what
    is one site here, and not for a browser, has none of our cookies to send.)
    """
    scheme, _, authority = origin.partition("://")
    if scheme not in _DEFAULT_PORTS or not all(_is_nearby(_name_of(host)) for host in told):
        return False
    ours, theirs = (_name_of(host).split(".")[-2:] for host in (asked, authority))
    return _is_nearby(_name_of(asked)) or ours == theirs


def _name_of(host: str) -> str:
    return _PORT.sub("", host)


def _is_nearby(name: str) -> bool:
    try:
        return ipaddress.ip_address(name.strip("[]")).is_private
    except ValueError:
        return bool(name) and ("." not in name or name.endswith((".local", ".internal", ".localhost")))
