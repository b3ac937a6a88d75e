"""What an agent can do by hand: sign with its placeholder, speak raw TLS and HTTP, ask the metadata service.

Nothing here is needed to use Tollgate; the tests try with it what no SDK would send.
"""

import hashlib
import http.client
import json
import os
import socket
import ssl
import struct
import subprocess
import sys
import time

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

AWS = "198.51.100.7"
AWS6 = "2001:db8::7"
WEB = "203.0.113.5"
STS = "sts.us-east-1.amazonaws.com"
S3 = "s3.us-east-1.amazonaws.com"
WHO = "Action=GetCallerIdentity&Version=2011-06-15"
TIMEOUT = 30


def show(*values):
    """One line of JSON for the test."""
    print(json.dumps(values[0] if len(values) == 1 else values), flush=True)


def imds(path, method="GET", token=None, address="169.254.169.254", **headers):
    """Status, text and headers of the metadata service's answer."""
    connection = http.client.HTTPConnection(address, 80, timeout=TIMEOUT)
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    if token:
        headers["x-aws-ec2-metadata-token"] = token
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.read().decode(), {k.lower(): v for k, v in answer.getheaders()}


def imds_token():
    return imds("/latest/api/token", "PUT", x_aws_ec2_metadata_token_ttl_seconds="60")[1]


def placeholder():
    """The session's credentials, as an SDK would find them."""
    role = "/latest/meta-data/iam/security-credentials/"
    token = imds_token()
    return json.loads(imds(role + imds(role, token=token)[1], token=token)[1])


def signed(host, body="", method="POST", path="/", service="sts", region="us-east-1", keys=None, headers=None, s3=False, payload=None):
    """A request's head as (first line, list of headers), signed by botocore."""
    keys = keys or placeholder()
    credentials = Credentials(keys["AccessKeyId"], keys["SecretAccessKey"], keys.get("Token"))
    request = AWSRequest(method, "https://" + host + path, data=body, headers=dict(headers or {}))
    if not s3 and method == "POST" and "Content-Type" not in request.headers:
        request.headers["Content-Type"] = "application/x-www-form-urlencoded; charset=utf-8"
    auth = (S3SigV4Auth if s3 else SigV4Auth)(credentials, service, region)
    if payload:
        auth.payload = lambda _: payload
    auth.add_auth(request)
    fields = [("Host", host), *request.headers.items()]
    return f"{method} {path} HTTP/1.1", fields


def head(line, fields):
    return (line + "\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fields) + "\r\n").encode()


def message(line, fields, body=""):
    body = body.encode() if isinstance(body, str) else body
    return head(line, [*fields, ("Content-Length", len(body)), ("Connection", "close")]) + body


def plain(address=AWS, port=80):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    connection = socket.socket(family)
    connection.settimeout(TIMEOUT)
    connection.connect((address, port))
    return connection


def tls(name, address=AWS, port=443, roots=None, alpn=None, verify=True):
    """A TLS connection with this server name, verified against the system's roots (or `roots`)."""
    context = ssl.create_default_context(cafile=roots)
    if alpn:
        context.set_alpn_protocols(alpn)
    if not verify or name is None:
        context.check_hostname = False
    if not verify:
        context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(plain(address, port), server_hostname=name)


def issuer(connection):
    """Common name of whoever signed the certificate."""
    parts = [pair for part in connection.getpeercert()["issuer"] for pair in part]
    return dict(parts).get("commonName")


def everything(connection):
    """All that comes until the other side closes."""
    out = b""
    try:
        while piece := connection.recv(65536):
            out += piece
    except (ConnectionResetError, ssl.SSLError):
        pass
    return out


def ask(connection, data):
    """Sends bytes; gives the answer's status (None if there is none) and text."""
    try:
        connection.sendall(data)
    except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
        pass
    text = everything(connection).decode(errors="replace")
    status = int(text.split(" ", 2)[1]) if text.startswith("HTTP/1") else None
    return status, text


def curl(url, fields, *more, data=None):
    """HTTP/2 by curl: version and status as curl tells them, and the body."""
    given = [part for k, v in fields for part in ("-H", f"{k}: {v}")]
    command = ["curl", "--http2", "-sS", "--max-time", "60", "-w", "\n%{http_version} %{http_code}", *given, *more, url]
    done = subprocess.run(command, capture_output=True, input=data)
    body, _, told = done.stdout.decode(errors="replace").rpartition("\n")
    return told, body, done.stderr.decode(errors="replace")


def client_hello(name):
    """The bytes of this OpenSSL's ClientHello."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    context.check_hostname = name is not None
    try:
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def with_extension(hello, kind, body):
    """The same ClientHello with one more extension at its end."""
    message = bytearray(hello[5:])
    at = 4 + 2 + 32
    at += 1 + message[at]
    at += 2 + struct.unpack_from(">H", message, at)[0]
    at += 1 + message[at]
    extension = struct.pack(">HH", kind, len(body)) + body
    struct.pack_into(">H", message, at, struct.unpack_from(">H", message, at)[0] + len(extension))
    message += extension
    message[1:4] = struct.pack(">I", len(message) - 4)[1:]
    return hello[:3] + struct.pack(">H", len(message)) + bytes(message)


def wait_for(path):
    """Until the test makes this file."""
    end = time.monotonic() + 60
    while not os.path.exists(path):
        if time.monotonic() > end:
            sys.exit(f"{path} did not appear")
        time.sleep(0.01)


def chunked(path, chunks, trailer=None, keys=None, host=S3, region="us-east-1", spoil=None, length=None, headers=None):
    """An upload in signed chunks as (first line, list of headers, body), as MinIO's and Java's clients write it.

    `spoil` changes the list of the body's parts after signing.
    """
    import hmac

    keys = keys or placeholder()
    word = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" + ("-TRAILER" if trailer else "")
    size = sum(map(len, chunks)) if length is None else length
    fields = {"X-Amz-Decoded-Content-Length": str(size), "Content-Encoding": "aws-chunked", **(headers or {})}
    if trailer:
        fields["X-Amz-Trailer"] = trailer[0]
    line, fields = signed(host, b"", "PUT", path, "s3", region, keys, fields, s3=True, payload=word)
    named = {k.lower(): v for k, v in fields}
    date, last = named["x-amz-date"], named["authorization"].rpartition("Signature=")[2]
    key = ("AWS4" + keys["SecretAccessKey"]).encode()
    for part in (date[:8], region, "s3", "aws4_request"):
        key = hmac.new(key, part.encode(), "sha256").digest()

    def sign(kind, *digests):
        nonlocal last
        scope = f"{date[:8]}/{region}/s3/aws4_request"
        text = "\n".join(["AWS4-HMAC-SHA256-" + kind, date, scope, last, *digests])
        last = hmac.new(key, text.encode(), "sha256").hexdigest()
        return last

    empty = hashlib.sha256(b"").hexdigest()
    parts = []
    for chunk in [*chunks, b""]:
        signature = sign("PAYLOAD", empty, hashlib.sha256(chunk).hexdigest())
        parts += [b"%x;chunk-signature=%s\r\n" % (len(chunk), signature.encode()), chunk, b"\r\n" if chunk else b""]
    if trailer:
        signature = sign("TRAILER", hashlib.sha256(f"{trailer[0]}:{trailer[1]}\n".encode()).hexdigest())
        parts.append(f"{trailer[0]}:{trailer[1]}\r\nx-amz-trailer-signature:{signature}\r\n".encode())
    parts.append(b"\r\n")
    if spoil:
        spoil(parts)
    return line, fields, b"".join(parts)


def slowly(connection, line, fields, body, pieces):
    """Sends a body in pieces of these sizes, each in a record of its own; gives status and text."""
    head_ = head(line, [*fields, ("Content-Length", len(body)), ("Connection", "close")])
    connection.sendall(head_)
    try:
        for size in pieces:
            if not body:
                break
            connection.sendall(body[:size])
            body = body[size:]
        connection.sendall(body)
    except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
        pass
    text = everything(connection).decode(errors="replace")
    return (int(text.split(" ", 2)[1]) if text.startswith("HTTP/1") else None), text


def presign(method, host, path="/", service="s3", region="us-east-1", expires=60, keys=None, headers=None, at=None):
    """A presigned URL of botocore's; `at`: seconds that its clock is off."""
    import botocore.auth
    import datetime

    keys = keys or placeholder()
    kind = botocore.auth.S3SigV4QueryAuth if service == "s3" else botocore.auth.SigV4QueryAuth
    request = AWSRequest(method, "https://" + host + path, headers=dict(headers or {}))
    now = botocore.auth.get_current_datetime
    if at:
        botocore.auth.get_current_datetime = lambda *a, **k: now(*a, **k) + datetime.timedelta(seconds=at)
    try:
        kind(Credentials(keys["AccessKeyId"], keys["SecretAccessKey"], keys["Token"]), service, region, expires).add_auth(request)
    finally:
        botocore.auth.get_current_datetime = now
    return request.url


def fetch(url, method="GET", fields=(), data=None, *more):
    """A URL by curl, HTTP/1.1: status and body."""
    given = [part for k, v in fields for part in ("-H", f"{k}: {v}")]
    body = ["--data-binary", "@-"] if data is not None else []
    command = ["curl", "-sS", "--globoff", "--path-as-is", "--max-time", "60", "-X", method, "-w", "\n%{http_code}", *given, *body, *more, url]
    done = subprocess.run(command, capture_output=True, input=data)
    text, _, status = done.stdout.decode(errors="replace").rpartition("\n")
    return int(status or 0), text


def multiregion(host, path, chunks, trailer=None, keys=None, region_set="*", padded=True, spoil=None):
    """An upload signed by SigV4A, in chunks that are signed, too; curve and canonical request are not Tollgate's."""
    import glob
    import hmac

    sys.path.extend(glob.glob(os.path.dirname(__file__) + "/moto/python3*/site-packages"))
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256
    import botocore.auth

    keys = keys or placeholder()
    name = "AWS4-ECDSA-P256-SHA256"
    fixed = name.encode() + b"\0" + keys["AccessKeyId"].encode() + b"\1" + (256).to_bytes(4, "big")
    digest = hmac.new(("AWS4A" + keys["SecretAccessKey"]).encode(), (1).to_bytes(4, "big") + fixed, "sha256").digest()
    key = ec.derive_private_key(int.from_bytes(digest, "big") + 1, ec.SECP256R1())
    sign_text = lambda text: key.sign(text.encode(), ec.ECDSA(SHA256())).hex()
    date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    scope = f"{date[:8]}/s3/aws4_request"
    request = AWSRequest("PUT", f"https://{host}{path}")
    for k, v in {
        "host": host,
        "x-amz-content-sha256": f"STREAMING-{name}-PAYLOAD" + ("-TRAILER" if trailer else ""),
        "x-amz-date": date,
        "x-amz-decoded-content-length": str(sum(map(len, chunks))),
        "x-amz-region-set": region_set,
        "x-amz-security-token": keys["Token"],
        **({"x-amz-trailer": trailer[0]} if trailer else {}),
    }.items():
        request.headers[k] = v
    canonical = S3SigV4Auth(Credentials("x", "x"), "s3", "*").canonical_request(request)
    last = sign_text("\n".join([name, date, scope, hashlib.sha256(canonical.encode()).hexdigest()]))
    names = ";".join(sorted(k.lower() for k in request.headers.keys()))
    fields = [*request.headers.items(), ("Authorization", f"{name} Credential={keys['AccessKeyId']}/{scope}, SignedHeaders={names}, Signature={last}")]
    parts = []

    def sign(kind, *digests):
        nonlocal last
        last = sign_text("\n".join([f"{name}-{kind}", date, scope, last, *digests]))
        return (last.ljust(144, "*") if padded else last).encode()

    for chunk in [*chunks, b""]:
        signature = sign("PAYLOAD", hashlib.sha256(b"").hexdigest(), hashlib.sha256(chunk).hexdigest())
        parts += [b"%x;chunk-signature=%s\r\n" % (len(chunk), signature), chunk, b"\r\n" if chunk else b""]
    if trailer:
        signature = sign("TRAILER", hashlib.sha256(f"{trailer[0]}:{trailer[1]}\n".encode()).hexdigest())
        parts.append(f"{trailer[0]}:{trailer[1]}\r\nx-amz-trailer-signature:".encode() + signature + b"\r\n")
    parts.append(b"\r\n")
    if spoil:
        spoil(parts)
    return f"PUT {path} HTTP/1.1", fields, b"".join(parts)


def events(host, path, messages, service="bedrock", region="us-east-1", keys=None):
    """A signed event stream as (first line, list of headers, list of frames)."""
    import hmac
    import zlib

    keys = keys or placeholder()
    word = "STREAMING-AWS4-HMAC-SHA256-EVENTS"
    given = {"Content-Type": "application/vnd.amazon.eventstream", "X-Amz-Content-SHA256": word}
    line, fields = signed(host, b"", "POST", path, service, region, keys, given, payload=word)
    named = {k.lower(): v for k, v in fields}
    last = bytes.fromhex(named["authorization"].rpartition("Signature=")[2])
    day = named["x-amz-date"][:8]
    key = ("AWS4" + keys["SecretAccessKey"]).encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), "sha256").digest()

    def frame(headers, payload):
        prelude = struct.pack(">II", len(headers) + len(payload) + 16, len(headers))
        text = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + payload
        return text + struct.pack(">I", zlib.crc32(text))

    def named_header(name, kind, value):
        return bytes([len(name)]) + name.encode() + bytes([kind]) + value

    frames = []
    for message in [*messages, None]:
        payload = b""
        if message is not None:
            text = lambda name, value: named_header(name, 7, struct.pack(">H", len(value)) + value.encode())
            inner = text(":message-type", "event") + text(":event-type", "chunk") + text(":content-type", "application/json")
            payload = frame(inner, message.encode())
        now = int(time.time())
        date = named_header(":date", 8, struct.pack(">q", now * 1000))
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        digests = [hashlib.sha256(date).hexdigest(), hashlib.sha256(payload).hexdigest()]
        text = "\n".join(["AWS4-HMAC-SHA256-PAYLOAD", stamp, f"{day}/{region}/{service}/aws4_request", last.hex(), *digests])
        last = hmac.new(key, text.encode(), "sha256").digest()
        frames.append(frame(date + named_header(":chunk-signature", 6, struct.pack(">H", 32) + last), payload))
    return line, fields, frames


def heard(connection, line, fields, frames):
    """Sends frames one by one by HTTP/1.1, and after the first waits for what comes; gives all of that."""
    connection.sendall(head(line, [*fields, ("Transfer-Encoding", "chunked")]))
    out = b""
    try:
        for n, frame in enumerate(frames):
            connection.sendall(b"%x\r\n%s\r\n" % (len(frame), frame))
            if n == 0:
                while b"bytes" not in out:
                    piece = connection.recv(65536)
                    if not piece:
                        return out.decode(errors="replace")
                    out += piece
        connection.sendall(b"0\r\n\r\n")
        while not out.endswith(b"0\r\n\r\n"):
            piece = connection.recv(65536)
            if not piece:
                break
            out += piece
    except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
        pass
    return out.decode(errors="replace")


def endless(path, count, size=131072, keys=None):
    """Sends an upload of so many signed chunks of zeros, made as they go; gives status and text."""
    import hmac

    keys = keys or placeholder()
    word = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
    fields = {"X-Amz-Decoded-Content-Length": str(count * size), "Content-Encoding": "aws-chunked"}
    line, fields = signed(S3, b"", "PUT", path, "s3", "us-east-1", keys, fields, s3=True, payload=word)
    named = {k.lower(): v for k, v in fields}
    date, last = named["x-amz-date"], named["authorization"].rpartition("Signature=")[2]
    scope = f"{date[:8]}/us-east-1/s3/aws4_request"
    key = ("AWS4" + keys["SecretAccessKey"]).encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), "sha256").digest()
    data, empty = bytes(size), hashlib.sha256(b"").hexdigest()
    connection = tls(S3)
    length = count * (len(f"{size:x}") + 85 + size) + 86
    connection.sendall(head(line, [*fields, ("Content-Length", length), ("Connection", "close")]))
    for chunk, digest in [(data, hashlib.sha256(data).hexdigest())] * count + [(b"", empty)]:
        text = "\n".join(["AWS4-HMAC-SHA256-PAYLOAD", date, scope, last, empty, digest])
        last = hmac.new(key, text.encode(), "sha256").hexdigest()
        connection.sendall(b"%x;chunk-signature=%s\r\n%s\r\n" % (len(chunk), last.encode(), chunk))
    text = everything(connection).decode(errors="replace")
    return int(text.split(" ", 2)[1]), text
