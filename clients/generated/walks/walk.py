"""With the client that openapi-python-client generates."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "generated"))

from python_client import AuthenticatedClient, Client
from python_client.api.sessions import create_token, log_out, refresh_token
from python_client.api.users import read_current_user, register_user
from python_client.models import LoginForm, NewUser, RefreshRequest, TokenPair, User

URL = os.environ["AUTH_URL"]
EMAIL, PASSWORD = f"walker-{os.getpid()}@python.example.com", "correct horse battery"
client = Client(URL)

user = register_user.sync(client=client, body=NewUser(email=EMAIL, password=PASSWORD))
assert isinstance(user, User), user
pair = create_token.sync(client=client, body=LoginForm(username=EMAIL, password=PASSWORD))
assert isinstance(pair, TokenPair), pair
me = read_current_user.sync(client=AuthenticatedClient(URL, pair.access_token))
assert isinstance(me, User), me
assert me.id == user.id
following = refresh_token.sync(client=client, body=RefreshRequest(refresh_token=pair.refresh_token))
assert isinstance(following, TokenPair), following
signed_in = AuthenticatedClient(URL, following.access_token)
assert log_out.sync_detailed(client=signed_in).status_code == 204  # noqa: PLR2004
refused = read_current_user.sync_detailed(client=signed_in)
assert refused.status_code == 401  # noqa: PLR2004
