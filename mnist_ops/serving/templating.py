"""Pages out of templates."""

from functools import cache
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from mnist_ops.serving.formats import FILTERS
from mnist_ops.serving.static_files import digest_of

# Where `access` keeps the user of a request. Airflow keeps its own, with rights of another kind, as `user`.
USER_STATE = "mnist_ops_user"

# What the navigation shows, in order: the path of each page, and its name.
NAVIGATION = (
    ("/", "Overview"),
    ("/runs", "Runs"),
    ("/review", "Review"),
    ("/models", "Models"),
    ("/backfills", "Backfills"),
    ("/sketchpad", "Sketchpad"),
    ("/api", "API"),
)


@cache
def _environment() -> Environment:
    environment = Environment(
        autoescape=True,
        loader=PackageLoader("mnist_ops.serving"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters.update(FILTERS)
    return environment


def url(request: Request, path: str, **query: object) -> str:
    """The address of a page: the mount point, a path such as "/run", and the values that are not None."""
    base = str(request.scope.get("root_path", "")).rstrip("/")
    given = {name: value for name, value in query.items() if value is not None}
    return f"{base}/{path.lstrip('/')}" + (f"?{urlencode(given)}" if given else "")


def page(request: Request, template: str, *, status: int = 200, **values: object) -> HTMLResponse:
    """A page, whose template sees `values` and these names.

    - `url(path, **query)`: the address of a page of ours; `static(name)`: that of a file in static/.
    - `user`: who asks, None on a page that says to sign in; `airflow`: whether Airflow serves the page.
    - `navigation`, `here` (the path of this page) and `sign_in_url`: for the base template.
    """
    return HTMLResponse(fragment(request, template, **values), status)


def fragment(request: Request, template: str, **values: object) -> str:
    """A piece of a page, whose template sees the same names as that of a page."""
    state = request.app.state
    root = str(request.scope.get("root_path", ""))
    names = {
        "url": lambda path, **query: url(request, path, **query),
        "static": lambda name: url(request, f"/static/{name}", v=digest_of(name)),
        "user": getattr(request.state, USER_STATE, None),
        "airflow": state.airflow,
        "navigation": NAVIGATION,
        "here": request.scope["path"].removeprefix(root) or "/",
        "sign_in_url": state.access.sign_in_url(request),
    }
    return _environment().get_template(template).render({**names, **values})
