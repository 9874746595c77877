"""Swagger UI as it suits this service; ReDoc is fastapi-offline's."""

from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi_offline import FastAPIOffline
from starlette.responses import HTMLResponse, RedirectResponse

_FILES: Final = "/static-offline-docs"
_BUNDLE: Final = "SwaggerUIBundle({"
_PLUGIN: Final = """{
    statePlugins: { auth: { wrapActions: { logoutWithPersistOption: (forget) => (names) => {
        fetch("api/v1/logout?scope=session", { method: "POST" });
        return forget(names);
    } } } }
}"""
"""The dialog's *Logout* ends the session too, whose cookies would stay signed in."""


def with_docs(**options: Any) -> FastAPI:
    app = FastAPIOffline(docs_url=None, **options)
    app.add_api_route("/", _to_docs, include_in_schema=False)
    app.add_api_route("/docs", _swagger_ui, include_in_schema=False)
    return app


def without_docs(**options: Any) -> FastAPI:
    return FastAPI(docs_url=None, redoc_url=None, openapi_url=None, **options)


async def _to_docs() -> RedirectResponse:
    return RedirectResponse("docs")


async def _swagger_ui(request: Request) -> HTMLResponse:
    root = request.scope["root_path"]
    page = get_swagger_ui_html(
        openapi_url=f"{root}{request.app.openapi_url}",
        title=f"{request.app.title} - Swagger UI",
        swagger_js_url=f"{root}{_FILES}/swagger-ui-bundle.js",
        swagger_css_url=f"{root}{_FILES}/swagger-ui.css",
        swagger_favicon_url=f"{root}{_FILES}/favicon.png",
        swagger_ui_parameters={"persistAuthorization": True},
    )
    text = bytes(page.body).decode()
    return HTMLResponse(text.replace(_BUNDLE, f"{_BUNDLE}\n    plugins: [{_PLUGIN}],", 1))
