"""Signs each request anew with held keys, as a mitmproxy script.

Hand-written with the standard library and a cached signing key, which is faster than an SDK's signer:
mitmproxy's own cost shall be what is measured. Large bodies are streamed and signed by their declared hash.
"""

import datetime
import hashlib
import hmac
import os

HELD_KEY = os.environ["BENCH_HELD_KEY"]
HELD_SECRET = os.environ["BENCH_HELD_SECRET"]
LEFT_OUT = {
    "authorization", "connection", "user-agent", "accept-encoding", "transfer-encoding", "te", "expect",
    "x-amz-security-token", "x-amz-date",
}


class Resign:
    def __init__(self):
        self.keys = {}

    def requestheaders(self, flow):
        if flow.request.stream:
            self.sign(flow.request, flow.request.headers["x-amz-content-sha256"])

    def request(self, flow):
        if not flow.request.stream:
            self.sign(flow.request, hashlib.sha256(flow.request.raw_content or b"").hexdigest())

    def sign(self, request, payload):
        headers = request.headers
        scope = headers["authorization"].split("Credential=", 1)[1].split(",", 1)[0].split("/", 1)[1]
        _, region, service, _ = scope.split("/")
        now = datetime.datetime.now(datetime.timezone.utc)
        stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
        scope = f"{day}/{region}/{service}/aws4_request"
        headers["x-amz-date"] = stamp
        headers.pop("x-amz-security-token", None)
        signed = sorted((k.lower(), v.strip()) for k, v in headers.items() if k.lower() not in LEFT_OUT or k.lower() == "x-amz-date")
        names = ";".join(k for k, _ in signed)
        path, _, query = request.path.partition("?")
        canonical = "\n".join(
            [request.method, path, query, "".join(f"{k}:{v}\n" for k, v in signed), names, payload]
        )
        text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
        signature = hmac.new(self.key(day, region, service), text.encode(), hashlib.sha256).hexdigest()
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={HELD_KEY}/{scope}, SignedHeaders={names}, Signature={signature}"
        )

    def key(self, day, region, service):
        found = self.keys.get((day, region, service))
        if found is None:
            found = ("AWS4" + HELD_SECRET).encode()
            for part in (day, region, service, "aws4_request"):
                found = hmac.new(found, part.encode(), hashlib.sha256).digest()
            self.keys[(day, region, service)] = found
        return found


addons = [Resign()]
