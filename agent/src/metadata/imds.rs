//! The instance metadata service, version 2 only.
//!
//! What the SDKs ask, in their order: a token; then the role's name and its credentials; the region or the
//! availability zone. Everything else is not there, as on an instance without it.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use serde_json::json;

use super::{Facts, ROLE, Tokens, document, moment, plain};

const TOKEN: &str = "x-aws-ec2-metadata-token";
const TOKEN_TTL: &str = "x-aws-ec2-metadata-token-ttl-seconds";
/// Six hours, EC2's limit.
const MAX_TTL: u64 = 21_600;

pub(super) fn respond(request: &Request<()>, facts: &Facts<'_>, tokens: &Tokens, now: SystemTime) -> Response<Bytes> {
    let Some(path) = without_version(request.uri().path()) else { return not_found() };
    if path == "api/token" {
        return match *request.method() {
            Method::PUT => token(request, facts, tokens, now),
            _ => plain(StatusCode::METHOD_NOT_ALLOWED, "ask for a token with PUT"),
        };
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "metadata can only be read");
    }
    let mut presented = request.headers().get_all(TOKEN).iter();
    let valid = match (presented.next(), presented.next()) {
        (Some(token), None) => tokens.check(token.as_bytes(), facts.session, now),
        _ => None,
    };
    let Some(left) = valid else {
        return plain(StatusCode::UNAUTHORIZED, "a valid token is needed: PUT /latest/api/token");
    };
    let mut response = read(path, facts);
    response.headers_mut().insert(TOKEN_TTL, HeaderValue::from(left.as_secs()));
    response
}

/// `latest/…` or a dated version, as EC2 lists them; `None` otherwise.
fn without_version(path: &str) -> Option<&str> {
    let (version, rest) = path.strip_prefix('/')?.split_once('/')?;
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit() || b == b'-' || b == b'.');
    // Clients that join paths carelessly write `//`.
    (version == "latest" || digits(version)).then(|| rest.trim_start_matches('/'))
}

fn token(request: &Request<()>, facts: &Facts<'_>, tokens: &Tokens, now: SystemTime) -> Response<Bytes> {
    let ttl = request.headers().get(TOKEN_TTL).and_then(|v| v.to_str().ok()?.trim().parse::<u64>().ok());
    match ttl {
        Some(ttl @ 1..=MAX_TTL) => {
            let mut response = plain(StatusCode::OK, tokens.make(facts.session, Duration::from_secs(ttl), now));
            response.headers_mut().insert(TOKEN_TTL, HeaderValue::from(ttl));
            response
        }
        _ => plain(StatusCode::BAD_REQUEST, format!("{TOKEN_TTL} must be a number from 1 to {MAX_TTL}")),
    }
}

fn read(path: &str, facts: &Facts<'_>) -> Response<Bytes> {
    let region = facts.region;
    // One zone, by the usual scheme: some clients cut its last letter off to get the region.
    let zone = || format!("{region}a");
    match path.strip_suffix('/').unwrap_or(path) {
        "meta-data/iam/security-credentials" if facts.placeholder.is_some() => plain(StatusCode::OK, ROLE),
        "meta-data/placement/region" => plain(StatusCode::OK, region.to_owned()),
        "meta-data/placement/availability-zone" => plain(StatusCode::OK, zone()),
        "dynamic/instance-identity/document" => document(&json!({
            "version": "2017-09-30",
            "region": region,
            "availabilityZone": zone(),
        })),
        path => match (path.strip_prefix("meta-data/iam/security-credentials/"), &facts.placeholder) {
            (Some(ROLE), Some(placeholder)) => document(&json!({
                "Code": "Success",
                "LastUpdated": moment(placeholder.issued),
                "Type": "AWS-HMAC",
                "AccessKeyId": placeholder.access_key_id,
                "SecretAccessKey": placeholder.secret_access_key.expose(),
                "Token": placeholder.session_token.expose(),
                "Expiration": moment(placeholder.expires),
            })),
            _ => not_found(),
        },
    }
}

fn not_found() -> Response<Bytes> {
    plain(StatusCode::NOT_FOUND, "no such document")
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::credential::Placeholders;
    use crate::session::SessionId;

    struct World {
        session: SessionId,
        placeholders: Placeholders,
        tokens: Tokens,
        address: IpAddr,
    }

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_767_322_800)
    }

    impl World {
        fn new() -> Self {
            let (session, placeholders) = (SessionId::random(), Placeholders::default());
            placeholders.mint(&session, Duration::from_secs(3600), now());
            Self {
                session,
                placeholders,
                tokens: Tokens::default(),
                address: IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
            }
        }

        fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Response<Bytes> {
            let mut request = Request::builder().method(method).uri(path);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let facts = Facts {
                session: &self.session,
                placeholder: self.placeholders.current(&self.session),
                region: "eu-central-1",
                address: self.address,
            };
            super::super::respond(&request.body(()).expect("valid"), &facts, &self.tokens, now())
        }

        fn token(&self) -> String {
            let response = self.ask("PUT", "/latest/api/token", &[(TOKEN_TTL, "21600")]);
            assert_eq!(response.status(), 200);
            assert_eq!(response.headers()[TOKEN_TTL], "21600");
            String::from_utf8(response.into_body().to_vec()).expect("text")
        }

        fn get(&self, path: &str) -> (u16, String) {
            let response = self.ask("GET", path, &[(TOKEN, &self.token())]);
            (response.status().as_u16(), String::from_utf8(response.into_body().to_vec()).expect("text"))
        }
    }

    #[test]
    fn the_way_of_the_sdks() {
        let world = World::new();
        let role = world.get("/latest/meta-data/iam/security-credentials/");
        assert_eq!(role, (200, "tollgate".into()));
        let (status, text) = world.get("/latest/meta-data/iam/security-credentials/tollgate");
        assert_eq!(status, 200);
        let given: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let placeholder = world.placeholders.current(&world.session).expect("there");
        assert_eq!(given["Code"], "Success");
        assert_eq!(given["Type"], "AWS-HMAC");
        assert_eq!(given["AccessKeyId"], placeholder.access_key_id);
        assert_eq!(given["SecretAccessKey"], placeholder.secret_access_key.expose());
        assert_eq!(given["Token"], placeholder.session_token.expose());
        assert_eq!(given["LastUpdated"], "2026-01-02T03:00:00Z");
        assert_eq!(given["Expiration"], "2026-01-02T04:00:00Z");
        assert_eq!(given.get("AccountId"), None, "an account would switch DynamoDB to hosts of its own");
    }

    #[test]
    fn places() {
        let world = World::new();
        assert_eq!(world.get("/latest/meta-data/placement/region"), (200, "eu-central-1".into()));
        for path in [
            "/latest/meta-data/placement/availability-zone",
            "/latest/meta-data/placement/availability-zone/",
            "/2021-03-23/meta-data/placement/availability-zone",
        ] {
            assert_eq!(world.get(path), (200, "eu-central-1a".into()), "{path}");
        }
        let (_, text) = world.get("/latest/dynamic/instance-identity/document");
        let identity: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(identity["region"], "eu-central-1");
    }

    #[test]
    fn what_is_not_there() {
        let world = World::new();
        for path in [
            "/",
            "/latest",
            "/latest/",
            "/latest/meta-data/",
            "/latest/user-data",
            "/latest/meta-data/instance-id",
            "/latest/meta-data/iam/security-credentials-extended/",
            "/latest/meta-data/iam/security-credentials/other",
            "/latest/meta-data/iam/security-credentials/tollgate/x",
            "/newest/meta-data/placement/region",
            "/v2/credentials/x",
        ] {
            assert_eq!(world.get(path).0, 404, "{path}");
        }
        world.placeholders.revoke(&world.session);
        for path in
            ["/latest/meta-data/iam/security-credentials/", "/latest/meta-data/iam/security-credentials/tollgate"]
        {
            assert_eq!(world.get(path).0, 404, "{path}");
        }
    }

    #[test]
    fn tokens_are_asked_for() {
        let world = World::new();
        let path = "/latest/meta-data/iam/security-credentials/";
        assert_eq!(world.ask("GET", path, &[]).status(), 401);
        assert_eq!(world.ask("GET", path, &[(TOKEN, "x")]).status(), 401);
        let elsewhere = World { session: SessionId::random(), ..World::new() }.token();
        assert_eq!(world.ask("GET", path, &[(TOKEN, &elsewhere)]).status(), 401);
        let token = world.token();
        assert_eq!(world.ask("GET", path, &[(TOKEN, &token), (TOKEN, &token)]).status(), 401);
        assert_eq!(world.ask("HEAD", path, &[(TOKEN, &token)]).status(), 200);
        assert_eq!(world.ask("POST", path, &[(TOKEN, &token)]).status(), 405);
        assert_eq!(world.ask("GET", "/latest/api/token", &[(TOKEN, &token)]).status(), 405);
        assert_eq!(world.ask("GET", path, &[(TOKEN, &token), ("x-forwarded-for", "10.0.0.1")]).status(), 403);
        assert_eq!(
            world.ask("PUT", "/latest/api/token", &[(TOKEN_TTL, "60"), ("x-forwarded-for", "10.0.0.1")]).status(),
            403
        );
        for ttl in ["0", "21601", "-1", "x", ""] {
            assert_eq!(world.ask("PUT", "/latest/api/token", &[(TOKEN_TTL, ttl)]).status(), 400, "{ttl}");
        }
        assert_eq!(world.ask("PUT", "/latest/api/token", &[]).status(), 400);
    }

    #[test]
    fn containers() {
        let mut world = World::new();
        world.address = IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2));
        let response = world.ask("GET", "/v2/credentials/abc", &[]);
        let given: serde_json::Value = serde_json::from_slice(response.body()).expect("JSON");
        assert_eq!(given["AccessKeyId"], world.placeholders.current(&world.session).expect("there").access_key_id);
        assert_eq!(world.ask("PUT", "/v2/credentials/abc", &[]).status(), 404);
        assert_eq!(world.ask("GET", "/latest/meta-data/placement/region", &[]).status(), 404);
        assert_eq!(world.ask("GET", "/v2/credentials/abc", &[("x-forwarded-for", "1.1.1.1")]).status(), 403);
    }
}
