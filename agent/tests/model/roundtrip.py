"""Makes requests as botocore would send them, and the host names that its rule sets produce; prints JSON lines.

Owns the oracle of `agent/tests/model.rs`: what is asked for is known here, what is made of it is the agent's business.
Nothing is sent: every request is caught before it leaves. Usage: roundtrip.py requests|endpoints
"""

import base64
import datetime
import json
import multiprocessing
import os
import re
import sys

import botocore.session
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.endpoint_provider import EndpointProvider
from botocore.exceptions import EndpointProviderError
from botocore.loaders import Loader

ACCOUNT = "123456789012"
REGION = "us-east-1"
SERVICE = ""
# Rule sets that look into an ARN want it whole.
ARNS = {
    "kinesis": f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/some-stream",
    "cloudfront-keyvaluestore": f"arn:aws:cloudfront::{ACCOUNT}:key-value-store/12345678-1234-1234-1234-123456789012",
}
CONFIG = Config(
    retries={"total_max_attempts": 1}, parameter_validation=False, disable_request_compression=True,
    inject_host_prefix=True,
)


def text(shape, name):
    values = shape.metadata.get("enum")
    if values:
        return values[0]
    low = name.lower()
    if low == "bucket":
        return "some-bucket"
    if low == "copysource":
        return "other-bucket/some%20key"
    if low == "accountid":
        return ACCOUNT
    if low.endswith("arn"):
        if SERVICE == "kinesis" and low in ("queuearn", "channelarn"):
            return f"arn:aws:kinesis:{REGION}:{ACCOUNT}:{low[:-3]}/some-id"
        return ARNS.get(SERVICE, f"arn:aws:{SERVICE}:{REGION}:{ACCOUNT}:thing/some-id")
    return ("some-" + low).ljust(shape.metadata.get("min", 1), "x")[: max(1, shape.metadata.get("max", 60))]


def value(shape, name, depth=0):
    kind = shape.type_name
    if kind == "structure":
        if getattr(shape, "is_document_type", False):
            return {"a": "b"}
        if getattr(shape, "is_eventstream", False):
            raise NotImplementedError("event streams are not made")
        wanted = shape.required_members
        if getattr(shape, "is_tagged_union", False) and not wanted:
            wanted = list(shape.members)[:1]
        return {n: value(shape.members[n], n, depth + 1) for n in wanted if depth < 8}
    if kind == "list":
        return [value(shape.member, name, depth + 1)] if depth < 8 else []
    if kind == "map":
        return {text(shape.key, "key"): value(shape.value, name, depth + 1)} if depth < 8 else {}
    if kind == "string":
        return text(shape, name)
    if kind in ("integer", "long", "short", "byte", "bigInteger"):
        return max(1, int(shape.metadata.get("min", 1)))
    if kind in ("float", "double", "bigDecimal"):
        return 1.5
    if kind == "boolean":
        return True
    if kind == "blob":
        return b"some bytes"
    if kind == "timestamp":
        return datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
    return text(shape, name)


def parameters(shape, full):
    if shape is None:
        return {}
    found = {}
    for name, member in shape.members.items():
        if full or name in shape.required_members:
            found[name] = value(member, name)
    return found


def empty(v):
    """Whether nothing of a value is written: structures without members leave no trace in forms and XML."""
    if isinstance(v, dict):
        return all(empty(inner) for inner in v.values())
    return isinstance(v, list) and all(empty(inner) for inner in v)


def plain(found):
    """Texts, numbers and truths of the top level, for comparison; other values by their being there only."""
    return {n: v if isinstance(v, (str, int, float, bool)) else None for n, v in found.items() if not empty(v)}


class Discovered:
    """The answer of an operation that tells a client its endpoint: a cell of the service."""

    def __init__(self, service):
        cell = "query-cell1" if "query" in service else "ingest-cell1"
        found = {"Address": f"{cell}.timestream.{REGION}.amazonaws.com", "CachePeriodInMinutes": 1440}
        self.body = json.dumps({"Endpoints": [found]}).encode()

    def stream(self, *_, **__):
        yield self.body


def requests(name):
    global SERVICE
    SERVICE = name
    session = botocore.session.Session()
    session.set_credentials("AKIDEXAMPLE", "secret")
    out = []
    try:
        client = session.create_client(name, region_name=REGION, config=CONFIG)
    except Exception as e:
        return [{"service": name, "failed": str(e)}]
    caught = []

    def catch(request, event_name="", **_):
        caught.append(request)
        if event_name.endswith(".DescribeEndpoints"):
            return AWSResponse(request.url, 200, {"content-type": "application/x-amz-json-1.0"}, Discovered(name))
        return AWSResponse(request.url, 200, {}, None)

    client.meta.events.register("before-send", catch)
    model = client.meta.service_model
    for op in model.operation_names:
        shape = model.operation_model(op).input_shape
        for full in (False, True):
            caught.clear()
            try:
                params = parameters(shape, full)
                sent = plain(params)
                client._make_api_call(op, params)
            except Exception as e:
                error = f"{type(e).__name__}: {e}"
            else:
                error = "nothing was sent"
            if not caught:
                out.append({"service": name, "op": op, "full": full, "failed": error[:200]})
                continue
            request = caught[-1]
            body = request.body
            if hasattr(body, "read"):
                body = b""
            if isinstance(body, str):
                body = body.encode()
            headers = [[k, v.decode("latin-1") if isinstance(v, bytes) else str(v)] for k, v in request.headers.items()]
            scope = re.search(r"Credential=[^/]+/\d+/(?:([^/]+)/)?([^/]+)/aws4_request", dict(headers).get("Authorization", ""))
            region = scope.group(1) if scope else None
            out.append({
                "service": name, "op": op, "full": full, "method": request.method, "url": request.url,
                "headers": headers, "body": base64.b64encode(body or b"").decode(), "params": sent,
                "region": (region or "*") if scope else None, "scope": scope.group(2) if scope else None,
            })
    return out


S3_VARIANTS = [
    {"Bucket": "some-bucket"}, {"Bucket": "some.dotted.bucket"}, {"Bucket": "some-bucket", "Accelerate": True},
    {"Bucket": "some-bucket", "ForcePathStyle": True},
    {"Bucket": "arn:{p}:s3:{r}:" + ACCOUNT + ":accesspoint/some-point"},
    {"Bucket": "arn:{p}:s3::" + ACCOUNT + ":accesspoint/some.mrap"},
    {"Bucket": "arn:{p}:s3-object-lambda:{r}:" + ACCOUNT + ":accesspoint/some-point"},
    {"Bucket": "arn:{p}:s3-outposts:{r}:" + ACCOUNT + ":outpost/op-01234567890123456/accesspoint/some-point"},
    {"Bucket": "some-bucket--use1-az4--x-s3"}, {"Bucket": "some-bucket--use1-az4--x-s3", "UseS3ExpressControlEndpoint": True},
]
VARIANTS = {
    "s3": S3_VARIANTS,
    "s3control": [{"AccountId": ACCOUNT, "RequiresAccountId": True}],
    "dynamodb": [{"AccountId": ACCOUNT, "AccountIdEndpointMode": "preferred"}],
    "events": [{"EndpointId": "abcde.veo"}], "sesv2": [{"EndpointId": "abcde.456"}],
    "kinesis": [{"StreamARN": "arn:{p}:kinesis:{r}:" + ACCOUNT + ":stream/s", "OperationType": "data"},
                {"StreamARN": "arn:{p}:kinesis:{r}:" + ACCOUNT + ":stream/s", "OperationType": "control"}],
    "cloudfront-keyvaluestore": [{"KvsARN": "arn:{p}:cloudfront::" + ACCOUNT + ":key-value-store/1"}],
}


def endpoints(name):
    loader = Loader()
    partitions = loader.load_data("partitions")
    try:
        rules = loader.load_service_model(name, "endpoint-rule-set-1")
        meta = loader.load_service_model(name, "service-2")["metadata"]
    except Exception as e:
        return [{"service": name, "failed": str(e)}]
    provider = EndpointProvider(rules, partitions)
    known = rules["parameters"]
    seen, out = set(), []
    for partition in partitions["partitions"]:
        for region in partition["regions"]:
            for fips in (False, True):
                for dual in (False, True):
                    for variant in [{}, *VARIANTS.get(name, [])]:
                        params = {"Region": region, "UseFIPS": fips, "UseDualStack": dual}
                        for key, v in variant.items():
                            params[key] = v.format(p=partition["id"], r=region) if isinstance(v, str) else v
                        params = {k: v for k, v in params.items() if k in known}
                        try:
                            found = provider.resolve_endpoint(**params)
                        except EndpointProviderError:
                            continue
                        host = found.url.split("//")[1].split("/")[0]
                        schemes = found.properties.get("authSchemes", [])
                        scheme = next((s for s in schemes if s["name"] != "sigv4a"), schemes[0] if schemes else {})
                        row = {
                            "service": name, "host": host, "partition": partition["id"], "asked": region,
                            "region": scheme.get("signingRegion"),
                            "signing": scheme.get("signingName") or meta.get("signingName") or meta["endpointPrefix"],
                            "bucket": variant.get("Bucket") if host.startswith(str(variant.get("Bucket")) + ".") else None,
                        }
                        key = (host, row["signing"], row["region"])
                        if key not in seen:
                            seen.add(key)
                            out.append(row)
    return out


def main():
    work = {"requests": requests, "endpoints": endpoints}[sys.argv[1]]
    names = sys.argv[2:] or botocore.session.Session().get_available_services()
    with multiprocessing.Pool(min(4, os.cpu_count() or 1)) as pool:
        for rows in pool.imap(work, names, chunksize=4):
            for row in rows:
                print(json.dumps(row, separators=(",", ":")))


if __name__ == "__main__":
    main()
