"""Reads botocore's service models and rule sets and the service authorization reference; prints the model as JSON.

Owns the extraction: which operations there are, how their requests look, which IAM actions and resources they stand for,
and which host names lead to which service. The packing is `pack.rs`. Runs below `cargo xtask model`; no network.
Usage: extract.py BOTOCORE_DATA IAM_DATA OVERRIDES
"""

import glob
import gzip
import json
import os
import re
import sys
import tomllib

DATA, IAM, OVERRIDES = sys.argv[1:4]
with open(OVERRIDES, "rb") as f:
    HAND = tomllib.load(f)
with open(os.path.join(os.path.dirname(OVERRIDES), "credentials.toml"), "rb") as f:
    listed = tomllib.load(f)
HANDED_OUT = {
    (service, op)
    for part in [listed["placeholder"], listed["here"], *listed["denied"]]
    for service, ops in part.items()
    if service != "reason"
    for op in ops
}

LEVELS = {"Read": 0, "List": 1, "Write": 2, "Tagging, Write": 3, "Permissions management, Write": 4}
SCALARS = {
    "string": 0, "character": 0, "integer": 1, "long": 1, "short": 1, "byte": 1, "bigInteger": 1, "float": 2,
    "double": 2, "bigDecimal": 2, "boolean": 3, "blob": 4, "timestamp": 5,
}
DOCUMENT, FIRST_COMPOUND = 6, 7
LOCATIONS = {None: 0, "uri": 1, "querystring": 2, "header": 3, "headers": 4}
STANDARD = {"Partition", "Region", "Account"}


def load(path):
    opener = gzip.open if path.endswith(".gz") else open
    with opener(path, "rb") as f:
        return json.load(f)


# ---- the service authorization reference ------------------------------------------------------


def reference(kind):
    found = {}
    for path in sorted(glob.glob(f"{IAM}/{kind}/*.json")):
        found[os.path.basename(path)[:-5]] = load(path)
    return found


ACTIONS = {p: {a["name"]: a for a in acts.values()} for p, acts in reference("actions").items()}
FOLDED = {p: {name.lower(): name for name in acts} for p, acts in ACTIONS.items()}
TYPES = reference("resourceTypes")


def level(action):
    prefix, name = action.split(":", 1)
    entry = ACTIONS.get(prefix, {}).get(name)
    if entry is None:
        sys.exit(f"overrides.toml names `{action}`, which the service authorization reference does not know; correct it")
    return LEVELS[entry["accessLevel"]]


# ---- services ---------------------------------------------------------------------------------


# Names of members that are roles, and of those that bring one along: an instance profile holds a role.
ROLE = re.compile(r"(role_?arns?|iam_?roles?|service_?role|execution_?role|instance_?role)$", re.I)
PROFILE = re.compile(r"^iam_?instance_?profile(_?arn)?$", re.I)
# Variables that programs get: secrets are put there.
VARIABLES = re.compile(r"environment_?variables$", re.I)
SENSITIVE = {(s, n) for s, names in HAND["sensitive"].items() for n in names}
ROLES = {(s, n) for s, names in HAND["roles"].items() for n in names}


class Shapes:
    """The shapes that inputs reach, by index; scalars have fixed indexes below `FIRST_COMPOUND`."""

    def __init__(self, model, protocols, service):
        self.model, self.protocols, self.service = model, protocols, service
        self.index, self.out = {}, []
        self.telling = self.reaching(self.secret)
        self.passing = self.reaching(lambda name, member: bool(self.role(name, member)))

    def inner(self, name):
        """What a list's items or a map's values are, at any depth; a shape itself otherwise."""
        shape = self.model[name]
        while shape["type"] in ("list", "map"):
            name = shape["member" if shape["type"] == "list" else "value"]["shape"]
            shape = self.model[name]
        return name

    def sensitive(self, name):
        """Whether the model calls a shape, or what is listed in it, sensitive."""
        shape = self.model[name]
        while True:
            if shape.get("sensitive"):
                return True
            if shape["type"] not in ("list", "map"):
                return False
            shape = self.model[shape["member" if shape["type"] == "list" else "value"]["shape"]]

    def secret(self, name, member):
        """Whether a member's value is sensitive, by the model or by hand."""
        return self.sensitive(member["shape"]) or bool(VARIABLES.search(name)) or (self.service, name) in SENSITIVE

    def role(self, name, member):
        """1: a role if it is a role's ARN; 2: a role, or what brings one along, however it is named; 0: neither."""
        target = self.inner(member["shape"])
        shape = self.model[target]
        if shape["type"] == "structure":
            return 2 if PROFILE.search(name) else 0
        if shape["type"] != "string" or "enum" in shape:
            return 0
        if (self.service, name) in ROLES or ROLE.search(name) or PROFILE.search(name):
            return 2
        if "role" in name.lower() or "role" in target.lower():
            return 2 if re.search(r":iam::|role/", shape.get("pattern", "")) else 1
        return 0

    def reaching(self, wanted):
        """The structures from which such a member is reached."""
        found, grows = set(), True
        structures = {n: s for n, s in self.model.items() if s["type"] == "structure"}
        while grows:
            grows = False
            for n, s in structures.items():
                if n not in found and any(wanted(m, v) or self.inner(v["shape"]) in found for m, v in s["members"].items()):
                    found.add(n)
                    grows = True
        return found

    def of(self, name):
        shape = self.model[name]
        kind = shape["type"]
        if kind in SCALARS:
            return SCALARS[kind]
        if shape.get("document"):
            return DOCUMENT
        if name in self.index:
            return self.index[name]
        number = self.index[name] = FIRST_COMPOUND + len(self.out)
        self.out.append(None)
        self.out[number - FIRST_COMPOUND] = getattr(self, kind)(shape)
        return number

    def structure(self, shape):
        return [self.member(n, m) for n, m in shape["members"].items()]

    def member(self, name, member):
        target = self.model[member["shape"]]
        wire = member.get("locationName", name)
        form = wire
        if "ec2" in self.protocols:
            form = member.get("queryName") or (wire[:1].upper() + wire[1:] if "locationName" in member else name)
        flat = target.get("flattened") or member.get("flattened")
        if flat and target["type"] == "list":
            # A flattened list stands under the name of its items.
            inner = target["member"].get("locationName")
            if inner and "ec2" not in self.protocols:
                form = inner
                if "rest-xml" in self.protocols and "locationName" not in member:
                    wire = inner
        where = LOCATIONS[member.get("location") if member.get("location") in LOCATIONS else None]
        if member.get("xmlAttribute") or target.get("xmlAttribute"):
            where = 5
        flags = int(bool(flat)) | int(self.secret(name, member)) << 1 | self.role(name, member) << 2
        return [name, wire, form, where, self.of(member["shape"]), flags]

    def list(self, shape):
        return [self.of(shape["member"]["shape"]), shape["member"].get("locationName", "member")]

    def map(self, shape):
        key, value = shape["key"].get("locationName", "key"), shape["value"].get("locationName", "value")
        return [self.of(shape["value"]["shape"]), key, value]


def endpoint_rules(folder):
    path = os.path.join(folder, "endpoint-rule-set-1.json.gz")
    return load(path)["rules"] if os.path.exists(path) else []


def endpoints(rules, partition=None):
    """Every endpoint of a rule set as (url, auth schemes, partition if the conditions fix it)."""
    for rule in rules:
        inner = partition
        for condition in rule.get("conditions", []):
            if condition["fn"] == "stringEquals":
                texts = [a for a in condition["argv"] if isinstance(a, str)]
                for text in texts:
                    inner = PARTITION_OF.get(text, inner)
        if rule["type"] == "endpoint":
            url = rule["endpoint"]["url"]
            if isinstance(url, str):
                yield url, rule["endpoint"].get("properties", {}).get("authSchemes", []), inner
        elif rule["type"] == "tree":
            yield from endpoints(rule["rules"], inner)


PARTITIONS = load(os.path.join(DATA, "partitions.json"))["partitions"]
PARTITION_OF = {p["id"]: p["id"] for p in PARTITIONS}
PARTITION_OF.update({r: p["id"] for p in PARTITIONS for r in p["regions"]})
IMPLICIT = {p["id"]: p["outputs"]["implicitGlobalRegion"] for p in PARTITIONS}
SUFFIX = {}
for p in PARTITIONS:
    for s in ("dnsSuffix", "dualStackDnsSuffix"):
        SUFFIX.setdefault(p["outputs"][s], p["id"])
REGION = re.compile(r"[a-z]{2,4}(-[a-z]+){1,2}-\d+$")

unread_hosts = []


def host_key(url, partition):
    """(key labels, labels before it, whether the host has a region, partition) of a URL template, or None."""
    host = re.sub(r"^https?://", "", url).split("/")[0].split(":")[0]
    if host.startswith("{") and "." not in host:
        return None
    match = re.match(r"(.*)\.\{[A-Za-z]*#(dnsSuffix|dualStackDnsSuffix)\}$", host)
    if match:
        stem = match.group(1)
    else:
        suffix = next((s for s in sorted(SUFFIX, key=len, reverse=True) if host.endswith("." + s)), None)
        if suffix is None:
            suffix = next((s for s in ("signin.aws.amazon.com", "signin.aws", "aws.amazon.com", "amazonaws.cn",
                                       "amazonaws-us-gov.com", "amazonaws-eusc.eu", "on.aws", "c2shome.ic.gov",
                                       "sc2shome.sgov.gov", "csphome.adc-e.uk", "csphome.hci.ic.gov") if host.endswith("." + s)), None)
            if suffix is None:
                unread_hosts.append(url)
                return None
        else:
            partition = partition if SUFFIX[suffix] == "aws" and partition else SUFFIX[suffix]
        stem = host[: -len(suffix) - 1]
        if suffix.startswith("signin"):
            stem += ".signin"
    labels, before, region = [], 0, False
    for label in stem.split("."):
        if label in ("{Region}", "us-gov") or REGION.match(label) or label == "{PartitionResult#implicitGlobalRegion}":
            region = True
            if label == "us-gov":
                partition = "aws-us-gov"
        elif label in ("dualstack", "fips"):
            continue
        elif "{" in label:
            if labels:
                unread_hosts.append(url)
                return None
            # Endpoint ids of event buses and of mail have a dot in them.
            before += 2 if label == "{EndpointId}" else 1
        else:
            labels.append(re.sub(r"-fips$", "", label))
    if not labels:
        unread_hosts.append(url)
        return None
    return ".".join(labels), before, region, partition


HOSTS = {}


def add_host(key, service, before, partition=None, region=None):
    entry = HOSTS.setdefault(key, {"services": {}, "regions": {}})
    entry["services"][service] = max(before, entry["services"].get(service, 0))
    if region:
        entry["regions"].setdefault(partition or "aws", region)


def read_hosts(service, rules, model, signing):
    keys = set()
    for url, schemes, partition in endpoints(rules):
        for scheme in schemes:
            name = scheme.get("signingName")
            if name and "{" not in name and name not in signing:
                signing.append(name)
        fixed = next((s["signingRegion"] for s in schemes if s.get("signingRegion")), None)
        # Kinesis has hosts for its data and for its control plane.
        for kind in ("data", "control") if "{OperationType}" in url else ("",):
            found = host_key(url.replace("{OperationType}", kind), partition)
            if found is None:
                continue
            key, before, has_region, part = found
            keys.add(key)
            add_host(key, service, before)
            if not fixed:
                continue
            if has_region:
                # The host's region is not the one that is signed for.
                if "{Region}" in url and "{" not in fixed:
                    HOSTS[key]["regions"]["*" + (part or "")] = fixed
                continue
            if "implicitGlobalRegion" in fixed:
                for p in [part] if part else IMPLICIT:
                    add_host(key, service, before, p, IMPLICIT[p])
            elif "{" not in fixed:
                add_host(key, service, before, part, fixed)
    prefixes = {o["endpoint"]["hostPrefix"] for o in model["operations"].values() if o.get("endpoint", {}).get("hostPrefix")}
    for prefix in sorted(prefixes):
        for key in sorted(keys):
            if "{" in prefix:
                add_host(key, service, prefix.count("."))
            else:
                labels = (prefix + key).split(".")
                add_host(".".join(labels), service, 0)


def squash(text):
    return re.sub(r"[^a-z0-9]", "", text.lower())


def stem(text):
    match = re.match(r"(.+?)(identifier|name|id|arn)$", squash(text))
    return (match.group(1), match.group(2)) if match else (squash(text), "")


FITTING = {("name", "name"), ("id", "id"), ("name", "identifier"), ("id", "identifier"), ("identifier", "id"), ("identifier", "name")}


def fits(variable, kind, member, is_list):
    if squash(member) == squash(variable) or (is_list and squash(member) == squash(variable) + "s"):
        return True
    (vs, vk), (ms, mk) = stem(variable), stem(member)
    if is_list:
        return False
    if vs.removeprefix("db") == ms.removeprefix("db") and (vk, mk) in FITTING:
        return True
    # A variable that says no more than "its id" is that of the type.
    if squash(variable) in ("resourceid", "id", "identifier", "resourcename", "name", "resourcepath"):
        if ms == squash(kind) and mk in ("id", "identifier", "name"):
            return True
    return squash(member) in ("name", "id", "identifier") and vs == squash(kind) and (vk, squash(member)) in FITTING


VAGUE = {"name", "id", "identifier", "resourceid", "resourcename", "resourcearn", "arn", "path", "type", "key", "value"}


def nested(arn, kind, deep):
    """The template over members of structures and lists, where each has just the variable's name and stands in one place."""
    def only(wanted):
        found = [path for path, leaf in deep if squash(leaf) == wanted]
        return found[0] if len(found) == 1 else None

    variables = [v for v in re.findall(r"\$\{(\w+)\}", arn) if v not in STANDARD]
    chosen = {v: only(squash(v)) for v in variables if squash(v) not in VAGUE}
    if variables and len(chosen) == len(variables) and all(chosen.values()):
        return re.sub(r"\$\{(\w+)\}", lambda m: "${=%s}" % chosen[m.group(1)] if m.group(1) in chosen else m.group(0), arn)
    whole = only(squash(kind) + "arn")
    return "${@%s}" % whole if whole else None


def resources(action, members, deep, service):
    """ARN templates over members for one action; `*` among them where a required type cannot be told."""
    # Operations on any resource of a service (tags, policies) name it whole.
    whole = [n for n, _ in members if squash(n) == "resourcearn"]
    prefix, name = action.split(":", 1)
    wanted = ACTIONS[prefix][name]["resourceTypes"]
    if whole and wanted:
        return ["${@%s}" % whole[0]]
    out, open_end = [], False
    for want in wanted:
        kind = want["name"].rstrip("*")
        entry = TYPES.get(prefix, {}).get(kind.lower())
        found = template(entry["arn"], kind, members, len(wanted) == 1) if entry else None
        if found is None and entry:
            found = nested(entry["arn"], kind, deep)
        if found is not None and len(wanted) > 1 and "${=" not in found and "${@" not in found:
            # One fixed resource among several types says nothing of the request.
            found = None
        if found is None:
            open_end |= bool(want.get("required")) or len(wanted) == 1
        elif found not in out:
            out.append(found)
    if out and open_end:
        out.append("*")
    return [whose(arn, members, service) for arn in out]


OWNERS = {(s, squash(n)) for n, services in HAND["owners"].items() for s in services}
MAYBE_OWNER = re.compile(r"(account|owner)(id|awsaccountid)?$")


def whose(arn, members, service):
    """The template with a member in the place of the account, where one says whose resource it is."""
    if "${Account}" not in arn:
        return arn
    texts = [n for n, is_list in members if not is_list and "${=%s}" % n not in arn]
    owner = next((n for n in texts if (service, squash(n)) in OWNERS), None)
    if owner:
        return arn.replace("${Account}", "${?%s}" % owner)
    return "".join("${!%s}" % n for n in texts if MAYBE_OWNER.search(squash(n))) + arn


def template(arn, kind, members, only):
    variables = [v for v in re.findall(r"\$\{(\w+)\}", arn) if v not in STANDARD]
    chosen = {}
    for variable in variables:
        match = next((n for n, is_list in members if fits(variable, kind, n, is_list)), None)
        if match is None:
            break
        chosen[variable] = match
    else:
        if variables:
            return re.sub(r"\$\{(\w+)\}", lambda m: "${=%s}" % chosen[m.group(1)] if m.group(1) in chosen else m.group(0), arn)
        return arn
    names = [squash(kind) + "arn", squash(kind) + "arns"]
    names += [stem(v)[0] + "arn" for v in variables[-1:]]
    if only:
        names += ["resourcearn", "arn", "resourceidentifier"]
    for wanted in names:
        for n, _ in members:
            if squash(n) == wanted:
                return "${@%s}" % n
    return None


def texts_below(model, shape, before, depth):
    """Texts in structures, and in lists of them, by their paths; not those at the top."""
    for name, member in shape.get("members", {}).items():
        target = model[member["shape"]]
        if target["type"] == "list":
            target = model[target["member"]["shape"]]
        if target["type"] == "string" and depth:
            yield before + name, name
        elif target["type"] == "structure" and depth < 3:
            yield from texts_below(model, target, f"{before}{name}.", depth + 1)


def passes(service, op):
    """Whether IAM asks for `iam:PassRole` where the request names a role."""
    if op in HAND["passes"].get(service, []):
        return True
    return service not in HAND["pass_nothing"]["services"] and not op.startswith(tuple(HAND["pass_nothing"]["verbs"]))


def service(name, folder):
    model = load(os.path.join(folder, "service-2.json.gz"))
    meta, shapes_model = model["metadata"], model["shapes"]
    for shape, kind in HAND["types"].get(name, {}).items():
        shapes_model[shape]["type"] = kind
    signing = [meta.get("signingName") or meta["endpointPrefix"]]
    read_hosts(name, [] if name in ("s3", "s3control") else endpoint_rules(folder), model, signing)
    if name in ("s3", "s3control"):
        signing += [s for s in ("s3express", "s3-outposts", "s3-object-lambda") if name == "s3" or s != "s3-object-lambda"]
    protocols = []
    for p in meta.get("protocols") or [meta["protocol"]]:
        if p == "json":
            p += meta.get("jsonVersion", "1.0")
        protocols.append(p)
    protocols += [p for p in HAND["protocols"].get(name, []) if p not in protocols]
    shapes = Shapes(shapes_model, protocols, name)
    prefixes = [s for s in signing if s in ACTIONS] + HAND["prefixes"].get(name, [])
    prefixes += [name] if name in ACTIONS and name not in prefixes else []
    hand, hand_arns = HAND["actions"].get(name, {}), HAND["resources"].get(name, {})
    for op in [*hand, *(o for o in hand_arns if o != "*")]:
        if op not in model["operations"]:
            sys.exit(f"overrides.toml names the operation `{name}:{op}`, which botocore does not know; correct it")
    rest = any(p.startswith("rest") for p in protocols)
    ops, routes = [], {}
    for op, o in model["operations"].items():
        uri = o["http"]["requestUri"]
        path, _, query = uri.partition("?")
        constants = [q.partition("=")[::2] for q in query.split("&") if q]
        entry = {
            "name": op, "method": o["http"]["method"], "path": path if rest else "", "constants": constants,
            "need_query": [], "need_header": [], "input": 0, "payload": "", "stream": False, "body": False,
            "credentials": (name, op) in HANDED_OUT, "level": 5, "needs": [], "passes": False, "output": 0, "answer": "",
            "telling": False, "typed": False,
        }
        members, deep = [], []
        if "input" in o:
            shape = shapes_model[o["input"]["shape"]]
            entry["input"] = shapes.of(o["input"]["shape"])
            required = set(shape.get("required", []))
            for n, m in shape["members"].items():
                target = shapes_model[m["shape"]]
                where, wire = m.get("location"), m.get("locationName", n)
                if rest and n in required and where == "querystring":
                    entry["need_query"].append(wire)
                elif rest and n in required and where == "header":
                    entry["need_header"].append(wire.lower())
                kind = target["type"]
                text = kind == "string" or (kind == "list" and shapes_model[target["member"]["shape"]]["type"] == "string")
                if text:
                    members.append((n, kind == "list"))
                entry["body"] |= where is None or not rest
            deep = list(texts_below(shapes_model, shape, "", 0))
            entry["payload"] = shape.get("payload", "")
            if entry["payload"]:
                target = shapes_model[shape["members"][entry["payload"]]["shape"]]
                entry["stream"] = target["type"] == "blob" or bool(target.get("eventstream"))
            entry["passes"] = o["input"]["shape"] in shapes.passing and passes(name, op)
        if "output" in o:
            shape = shapes_model[o["output"]["shape"]]
            entry["output"] = shapes.of(o["output"]["shape"])
            events = (n for n, m in shape["members"].items() if shapes_model[m["shape"]].get("eventstream"))
            entry["answer"] = shape.get("payload") or next(events, "")
            entry["telling"] = shapes.inner(o["output"]["shape"]) in shapes.telling
        if op in hand:
            actions = hand[op]
        else:
            found = next((f"{p}:{FOLDED[p][op.lower()]}" for p in prefixes if op.lower() in FOLDED[p]), None)
            if found is None and name in HAND["verbs"]["services"]:
                found = f"apigateway:{o['http']['method']}"
            actions = [found] if found else []
        if actions:
            entry["level"] = max(level(a) for a in actions)
        told = hand_arns.get(op, hand_arns.get("*"))
        for action in actions:
            prefix, plain = action.split(":", 1)
            entry["typed"] |= bool(ACTIONS[prefix][plain]["resourceTypes"])
            if isinstance(told, dict):
                arns = told[action]
            elif told is not None:
                arns = told
            else:
                arns = resources(action, members, deep, name) if name != "s3" else []
            entry["needs"].append([action, arns])
        # Deprecated operations of the same route are other names of what replaced them.
        route = (entry["method"], re.sub(r"\{\w+(\+?)\}", r"{\1}", path), query, tuple(entry["need_query"]), tuple(entry["need_header"]))
        if rest and o.get("deprecated") and route in routes:
            entry["path"] = ""
        elif rest and route in routes and model["operations"][routes[route]["name"]].get("deprecated"):
            routes[route]["path"] = ""
            routes[route] = entry
        else:
            routes.setdefault(route, entry)
        ops.append(entry)
        if (name, op) == ("cloudsearchdomain", "Search"):
            # SDKs send this GET as a POST, its parameters in a form; it may be long.
            ops.append({**entry, "method": "POST", "constants": [], "need_query": [], "stream": True})
    return {
        "id": name, "signing": signing, "iam": prefixes[0] if prefixes else signing[0], "protocols": protocols,
        "target": meta.get("targetPrefix", ""), "version": meta["apiVersion"], "ops": ops, "shapes": shapes.out,
    }


services = []
for name in sorted(os.listdir(DATA)):
    versions = sorted(v for v in glob.glob(f"{DATA}/{name}/*") if os.path.exists(f"{v}/service-2.json.gz"))
    if versions:
        services.append(service(name, versions[-1]))
number = {s["id"]: i for i, s in enumerate(services)}


def order(key):
    first = key.split(".")[-1]
    def rank(name):
        s = services[number[name]]
        return (name != first and name not in key.split("."), name != s["signing"][0], name)
    return rank


hosts = [
    [key, [[number[s], entry["services"][s]] for s in sorted(entry["services"], key=order(key))], sorted(entry["regions"].items())]
    for key, entry in sorted(HOSTS.items())
]
iam = [[p, [[n, LEVELS[a["accessLevel"]]] for n, a in sorted(acts.items())]] for p, acts in sorted(ACTIONS.items())]
json.dump({"services": services, "hosts": hosts, "iam": iam, "unread_hosts": sorted(set(unread_hosts))}, sys.stdout, separators=(",", ":"))
