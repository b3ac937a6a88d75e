"""A multi-region access point that verifies SigV4A, and a directory bucket with sessions (S3 Express): an S3 of one
level, in memory, over plain HTTP/1.1.

The canonical request is botocore's, the curve is the `cryptography` package's; nothing here is Tollgate's. Chunks that
are signed are verified one by one. The held key comes in the environment.
"""

import hashlib
import hmac
import os
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

ID, SECRET = os.environ["HELD_ID"], os.environ["HELD_SECRET"]
ALGORITHM = "AWS4-ECDSA-P256-SHA256"
EMPTY = hashlib.sha256(b"").hexdigest()
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def public_key():
    """Of the held key: NIST SP 800-108 in counter mode, as AWS documents it."""
    for counter in range(1, 255):
        fixed = ALGORITHM.encode() + b"\0" + ID.encode() + bytes([counter]) + (256).to_bytes(4, "big")
        digest = hmac.new(("AWS4A" + SECRET).encode(), (1).to_bytes(4, "big") + fixed, "sha256").digest()
        candidate = int.from_bytes(digest, "big")
        if candidate <= ORDER - 2:
            return ec.derive_private_key(candidate + 1, ec.SECP256R1()).public_key()
    raise ValueError("no key")


KEY = public_key()
OBJECTS = {}


# What CreateSession gives.
SESSION = Credentials("ASIAEXPRESSEXPRESS00", "express/secret/express/secret/express/00", "express-token/+=")


class Refused(Exception):
    pass


def check(text, signature):
    try:
        KEY.verify(bytes.fromhex(signature), text.encode(), ec.ECDSA(SHA256()))
    except (InvalidSignature, ValueError):
        raise Refused("SignatureDoesNotMatch: " + text.replace("\n", "|"))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def body(self):
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        whole = b""
        while size := int(self.rfile.readline(), 16):
            whole += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return whole

    def express(self, body):
        """A directory bucket's request: signed by the held key for a session, by the session's for all else."""
        session = self.command == "GET" and self.path in ("/?session", "/?session=")
        credentials = Credentials(ID, SECRET) if session else SESSION
        if self.headers["x-amz-security-token"] or self.headers["x-amz-s3session-token"] != credentials.token:
            raise Refused("wrong session token")
        fields = dict(f.strip().split("=", 1) for f in self.headers["Authorization"].partition(" ")[2].split(","))
        date, payload = self.headers["x-amz-date"], self.headers["x-amz-content-sha256"]
        request = AWSRequest(self.command, "https://" + self.headers["Host"] + self.path)
        for name in fields["SignedHeaders"].split(";"):
            for value in self.headers.get_all(name):
                request.headers[name] = value
        request.context["timestamp"] = date
        auth = S3SigV4Auth(credentials, "s3express", "us-east-1")
        text = auth.string_to_sign(request, auth.canonical_request(request))
        if auth.signature(text, request) != fields["Signature"] or not fields["Credential"].startswith(credentials.access_key):
            raise Refused("SignatureDoesNotMatch: " + text.replace("\n", "|"))
        if payload.startswith("STREAMING-"):
            return self.unchunked(body, payload, date, "", "")
        return body

    def verified(self, body):
        """The body that was meant."""
        if ".s3express-" in self.headers["Host"]:
            return self.express(body)
        authorization = self.headers.get_all("Authorization") or []
        if len(authorization) != 1 or not authorization[0].startswith(ALGORITHM + " "):
            raise Refused("one SigV4A signature is expected, not " + repr(authorization))
        fields = dict(f.strip().split("=", 1) for f in authorization[0].removeprefix(ALGORITHM).split(","))
        date, payload = self.headers["x-amz-date"], self.headers["x-amz-content-sha256"]
        scope = f"{date[:8]}/s3/aws4_request"
        if fields["Credential"] != f"{ID}/{scope}" or self.headers["x-amz-region-set"] != "*":
            raise Refused("wrong credential or region set")
        request = AWSRequest(self.command, "https://" + self.headers["Host"] + self.path)
        for name in fields["SignedHeaders"].split(";"):
            for value in self.headers.get_all(name):
                request.headers[name] = value
        canonical = S3SigV4Auth(Credentials(ID, SECRET), "s3", "*").canonical_request(request)
        check("\n".join([ALGORITHM, date, scope, hashlib.sha256(canonical.encode()).hexdigest()]), fields["Signature"])
        if payload == "UNSIGNED-PAYLOAD":
            return body
        if not payload.startswith("STREAMING-"):
            if hashlib.sha256(body).hexdigest() != payload:
                raise Refused("XAmzContentSHA256Mismatch")
            return body
        return self.unchunked(body, payload, date, scope, fields["Signature"])

    def unchunked(self, body, payload, date, scope, last):
        signed, whole = "ECDSA" in payload, b""
        while True:
            line, _, body = body.partition(b"\r\n")
            size, _, extension = line.decode().partition(";chunk-signature=")
            data, body = body[: int(size, 16)], body[int(size, 16) :]
            if signed:
                digest = hashlib.sha256(data).hexdigest()
                check("\n".join([ALGORITHM + "-PAYLOAD", date, scope, last, EMPTY, digest]), extension.rstrip("*"))
                last = extension.rstrip("*")
            if not data:
                break
            whole += data
            if body[:2] != b"\r\n":
                raise Refused("a chunk of another size than it says")
            body = body[2:]
        trailers = [line.split(":", 1) for line in body.decode().split("\r\n") if line]
        if signed and payload.endswith("-TRAILER"):
            name, signature = trailers.pop()
            text = "".join(f"{n}:{v}\n" for n, v in trailers)
            digest = hashlib.sha256(text.encode()).hexdigest()
            check("\n".join([ALGORITHM + "-TRAILER", date, scope, last, digest]), signature.rstrip("*"))
        if len(whole) != int(self.headers["x-amz-decoded-content-length"]):
            raise Refused("IncompleteBody")
        return whole

    def answer(self):
        path = self.path.split("?")[0]
        try:
            body = self.verified(self.body())
            if self.command == "PUT":
                OBJECTS[path] = body
                status, out = 200, b""
            elif self.path.startswith("/?session"):
                ends = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 300))
                status, out = 200, (
                    "<CreateSessionResult><Credentials>"
                    f"<SessionToken>{SESSION.token}</SessionToken><SecretAccessKey>{SESSION.secret_key}</SecretAccessKey>"
                    f"<AccessKeyId>{SESSION.access_key}</AccessKeyId><Expiration>{ends}</Expiration>"
                    "</Credentials></CreateSessionResult>"
                ).encode()
            else:
                status, out = (200, OBJECTS[path]) if path in OBJECTS else (404, b"<Error><Code>NoSuchKey</Code></Error>")
        except Refused as e:
            status, out = 403, f"<Error><Code>SignatureDoesNotMatch</Code><Message>{e}</Message></Error>".encode()
        self.send_response(status)
        if status == 200 and self.command == "PUT":
            self.send_header("ETag", '"%s"' % hashlib.md5(body).hexdigest())
        self.send_header("x-amz-seen-payload", self.headers.get("x-amz-content-sha256", "")[:60])
        self.send_header("Content-Length", str(len(out)))
        self.end_headers()
        self.wfile.write(out)

    do_GET = do_PUT = answer


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
