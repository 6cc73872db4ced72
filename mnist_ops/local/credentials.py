"""The keys and passwords of the embedded stack: generated once, and readable by their owner only."""

import json
import secrets
from dataclasses import asdict, dataclass

from mnist_ops.domain.errors import Damaged
from mnist_ops.local.layout import Layout, write_private
from mnist_ops.local.secrets_file import SECRETS


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """All secrets of one stack.

    Attributes:
        s3_access_key: the S3 user's name.
        s3_secret_key: its secret.
        airflow_password: the password of Airflow's user `admin`.
        airflow_fernet_key: encrypts connections in Airflow's metadata.
        airflow_jwt_secret: signs the tokens of users and of tasks.
        airflow_secret_key: signs the sessions of the API server.
    """

    s3_access_key: str
    s3_secret_key: str
    airflow_password: str
    airflow_fernet_key: str
    airflow_jwt_secret: str
    airflow_secret_key: str


def load_or_create(layout: Layout) -> Credentials:
    """Read the stack's credentials; the first call generates them.

    Raises:
        Damaged: the file exists but cannot be used. It is not replaced: the data in the stack needs its keys.
    """
    path = layout.credentials_file
    if not path.exists():
        credentials = _generate()
        write_private(path, json.dumps(asdict(credentials), indent=2))
        return credentials
    try:
        return Credentials(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        # Not chained: the text of the error may hold a secret.
        raise Damaged(f"{path} cannot be read; restore it, or remove {layout.root} to start again") from None


def _generate() -> Credentials:
    return Credentials(
        s3_access_key=SECRETS["S3_ACCESS_KEY"](),
        s3_secret_key=SECRETS["S3_SECRET_KEY"](),
        airflow_password=secrets.token_urlsafe(12),
        airflow_fernet_key=SECRETS["AIRFLOW_FERNET_KEY"](),
        airflow_jwt_secret=SECRETS["AIRFLOW_JWT_SECRET"](),
        airflow_secret_key=SECRETS["AIRFLOW_API_SECRET_KEY"](),
    )
