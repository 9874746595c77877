from starlette.responses import Response

from app.http.cookies import AuthCookies
from app.schemas.sessions import TokenPairOut
from app.services.sessions.tokens import TokenPair


def token_response(pair: TokenPair, cookies: AuthCookies) -> Response:
    """200 with the pair in the body and in the cookies."""
    content = TokenPairOut.model_validate(pair).model_dump_json()
    response = Response(content, media_type="application/json")
    cookies.set(response, pair)
    return response
