"""HTTP/2 against nginx."""

import grp
import os
import pwd
import shutil
import socket
import subprocess
import time

import pycurl
import pytest

from mnist_ops.adapters.http import transfers as http_transfers
from mnist_ops.domain.images import FetchedImage, UnchangedImage
from mnist_ops.domain.reasons import Reason
from tests.faults.certificate import certify
from tests.faults.fetchers import fetcher_for

NGINX = shutil.which("nginx", path="/usr/local/sbin:/usr/sbin:/usr/local/bin:/usr/bin")

# The workers must be able to read what the test writes; without root, nginx accepts only our own user.
USER = f"{pwd.getpwuid(os.getuid()).pw_name} {grp.getgrgid(os.getgid()).gr_name}"

pytestmark = [
    pytest.mark.skipif(NGINX is None, reason="nginx, the HTTP/2 server of these tests, is not installed"),
    pytest.mark.skipif(
        not pycurl.version_info()[4] & pycurl.VERSION_HTTP2, reason="this libcurl is built without HTTP/2"
    ),
]

CONFIGURATION = """
daemon off;
user {user};
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 256; }}
http {{
  log_format protocol "$server_protocol $connection $request_uri";
  access_log {folder}/access.log protocol;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  ssl_certificate {folder}/certificate.pem;
  ssl_certificate_key {folder}/key.pem;
  root {folder}/www;
  server {{ listen 127.0.0.1:{port} ssl http2; }}
  server {{ listen 127.0.0.1:{plain_port} ssl; }}
  server {{ listen 127.0.0.1:{hasty_port} ssl http2; keepalive_requests 20; }}
}}
"""


def free_port():
    """Return a port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Nginx:
    """A running nginx with three ports: HTTP/2, no HTTP/2, and HTTP/2 with only 20 requests a connection."""

    def __init__(self, folder):
        self.folder, self.ports = folder, [free_port() for _ in range(3)]
        self.port, self.plain_port, self.hasty_port = self.ports
        self.certificate = folder / "certificate.pem"
        self.host_port = f"127.0.0.1:{self.port}"
        self.plain_host_port = f"127.0.0.1:{self.plain_port}"
        self.hasty_host_port = f"127.0.0.1:{self.hasty_port}"

    def log(self):
        """Return protocol, connection and path of every request since the last call."""
        time.sleep(0.1)
        lines = (self.folder / "access.log").read_text().splitlines()
        (self.folder / "access.log").write_text("")
        return [line.split(" ") for line in lines]


@pytest.fixture(scope="module")
def nginx(tmp_path_factory):
    """An nginx that serves /0 to /299, with validators."""
    folder = tmp_path_factory.mktemp("nginx")
    certify(folder)
    (folder / "www").mkdir()
    for number in range(300):
        (folder / "www" / str(number)).write_bytes(b"image %d" % number)
    (folder / "www" / "large").write_bytes(bytes(1_000_000))
    server = Nginx(folder)
    settings = folder / "nginx.conf"
    ports = {"port": server.port, "plain_port": server.plain_port, "hasty_port": server.hasty_port}
    settings.write_text(CONFIGURATION.format(user=USER, folder=folder, **ports))
    process = subprocess.Popen([NGINX, "-c", str(settings), "-p", str(folder)])
    try:
        wait_until_it_listens(process, server)
        yield server
    finally:
        process.terminate()
        process.wait(10)


def wait_until_it_listens(process, server):
    """Wait until its ports accept connections."""
    deadline = time.monotonic() + 10
    for port in server.ports:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)


def test_many_requests_share_few_connections_where_http2_is_offered(nginx):
    """Only those that start before HTTP/2 is negotiated; all images come, in order, with validators."""
    urls = [f"https://{nginx.host_port}/{number}" for number in range(300)]
    nginx.log()
    with fetcher_for(nginx.host_port, ca_file=nginx.certificate) as images:
        outcomes = list(images.fetch(urls))
        known = {outcome.url: outcome.validators for outcome in outcomes}
        again = list(images.fetch(urls, known))
    assert [outcome.payload for outcome in outcomes] == [b"image %d" % number for number in range(300)]
    assert again == [UnchangedImage(url, 304) for url in urls]
    log = nginx.log()
    assert {protocol for protocol, _, _ in log} == {"HTTP/2.0"}
    assert len({connection for _, connection, _ in log}) <= 4


def test_a_server_without_http2_is_used_over_http1(nginx):
    """HTTP/2 is used only where the server offers it."""
    nginx.log()
    with fetcher_for(nginx.plain_host_port, ca_file=nginx.certificate) as images:
        outcomes = list(images.fetch(f"https://{nginx.plain_host_port}/{number}" for number in range(100)))
    assert all(isinstance(outcome, FetchedImage) for outcome in outcomes)
    assert {protocol for protocol, _, _ in nginx.log()} == {"HTTP/1.1"}


def test_a_connection_that_the_server_closes_costs_no_image(nginx):
    """This server closes each connection after twenty requests."""
    nginx.log()
    with fetcher_for(nginx.hasty_host_port, ca_file=nginx.certificate) as images:
        outcomes = list(images.fetch(f"https://{nginx.hasty_host_port}/{number}" for number in range(300)))
    assert [outcome.payload for outcome in outcomes] == [b"image %d" % number for number in range(300)]
    assert len({connection for _, connection, _ in nginx.log()}) >= 10


def test_the_byte_cap_and_missing_images_are_the_same_over_http2(nginx):
    """Ending one stream does not end the other streams of its connection."""
    paths = ["1", "large", "missing", *map(str, range(50))]
    with fetcher_for(nginx.host_port, ca_file=nginx.certificate) as images:
        outcomes = list(images.fetch(f"https://{nginx.host_port}/{path}" for path in paths))
    assert [outcome.reason for outcome in outcomes[1:3]] == [Reason.TOO_LARGE, Reason.NOT_FOUND]
    assert all(isinstance(outcome, FetchedImage) for outcome in [outcomes[0], *outcomes[3:]])


def test_a_connection_serves_one_name_only(nginx, monkeypatch):
    """Two names with one address and one certificate: two connections, and each one is checked."""
    checked = []
    block_reason = http_transfers.block_reason

    def check(address):
        checked.append(address)
        return block_reason(address)

    monkeypatch.setattr(http_transfers, "block_reason", check)
    a, b = f"a.example:{nginx.port}", f"b.example:{nginx.port}"
    resolve = [f"{name}:127.0.0.1" for name in (a, b)]
    nginx.log()
    with fetcher_for(a, ca_file=nginx.certificate, resolve=resolve) as images:
        (first,) = images.fetch([f"https://{a}/1"])
        (second,) = images.fetch([f"https://{b}/2"])
    assert first.payload == b"image 1"
    assert second.reason is Reason.BLOCKED_ADDRESS
    assert checked == ["127.0.0.1", "127.0.0.1"]
    assert [path for _, _, path in nginx.log()] == ["/1"]


def test_an_untrusted_certificate_is_rejected_over_http2(nginx):
    """HTTP/2 uses the same checks."""
    with fetcher_for(nginx.host_port) as images:
        (outcome,) = images.fetch([f"https://{nginx.host_port}/1"])
    assert outcome.reason is Reason.CONNECTION_FAILED
    assert "certificate" in outcome.detail
