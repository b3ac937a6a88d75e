//! Answers in each protocol, as AWS writes them.

use ciborium::Value as Cbor;
use serde_json::{Value, json};

use super::*;
use crate::aws::handout::{Treatment, named};

const ID: &str = "ASIAREALREALREALREAL";
const SECRET: &str = "real/secret+real/secret+real/secret+real";
const TOKEN: &str = "FwoGZXIvYXdzEJr//////////wEaDreal+token/real==";
const OURS: Substitute<'_> = Substitute {
    access_key_id: "ASIAPLACEHOLDERPLACE",
    secret_access_key: "placeholder/placeholder+placeholder/plac",
    session_token: "placeholder+token",
};

fn sites(service: &str, operation: &str) -> &'static [Site] {
    match named(service, operation).map(|h| &h.treatment) {
        Some(Treatment::Placeholder(sites)) => sites,
        other => panic!("{service}:{operation} is {other:?}"),
    }
}

/// What is found and what comes out.
fn exchange(protocol: Protocol, operation: (&str, &str), body: &[u8]) -> Result<(Vec<Key>, Bytes), AnswerError> {
    let answer = Answer::read(protocol, body, sites(operation.0, operation.1))?;
    let keys = answer.keys.clone();
    let out = answer.write(&vec![OURS; keys.len()])?;
    Ok((keys, out))
}

fn at(seconds: u64) -> Option<Ends> {
    Some(Ends::At(UNIX_EPOCH + Duration::from_secs(seconds)))
}

fn assume_role(inner: &str) -> String {
    format!(
        r#"<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <AssumeRoleResult>
    <Credentials>{inner}</Credentials>
    <AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/r/s</Arn><AssumedRoleId>AROA:s</AssumedRoleId></AssumedRoleUser>
  </AssumeRoleResult>
  <ResponseMetadata><RequestId>1</RequestId></ResponseMetadata>
</AssumeRoleResponse>"#
    )
}

fn values() -> String {
    format!(
        "<SessionToken>{TOKEN}</SessionToken><SecretAccessKey>{SECRET}</SecretAccessKey>\
         <Expiration>2023-11-14T22:13:20Z</Expiration><AccessKeyId>{ID}</AccessKeyId>"
    )
}

#[test]
fn query_answers_keep_all_but_the_three_values() {
    let body = assume_role(&values());
    let (keys, out) = exchange(Protocol::Query, ("sts", "AssumeRole"), body.as_bytes()).expect("reads");
    assert_eq!(keys.len(), 1);
    assert_eq!((keys[0].access_key_id.as_str(), keys[0].secret_access_key.expose()), (ID, SECRET));
    assert_eq!(keys[0].session_token.as_ref().map(Secret::expose), Some(TOKEN));
    assert_eq!(keys[0].ends, at(1_700_000_000));
    let expected =
        body.replace(ID, OURS.access_key_id).replace(SECRET, OURS.secret_access_key).replace(TOKEN, OURS.session_token);
    assert_eq!(out, expected.as_bytes());
    let answer = Answer::read(Protocol::Query, body.as_bytes(), sites("sts", "AssumeRole")).expect("reads");
    assert_eq!(answer.arn.as_deref(), Some("arn:aws:sts::123456789012:assumed-role/r/s"));
}

#[test]
fn prefixes_and_references_do_not_hide_a_key() {
    let escaped = values().replace('+', "&#43;").replace("AccessKeyId>", "n:AccessKeyId>");
    let (keys, out) =
        exchange(Protocol::Query, ("sts", "GetSessionToken"), assume_role(&escaped).as_bytes()).expect("reads");
    assert_eq!(keys[0].secret_access_key.expose(), SECRET);
    let out = String::from_utf8(out.to_vec()).expect("text");
    assert!(out.contains("<n:AccessKeyId>ASIAPLACEHOLDERPLACE</n:AccessKeyId>"), "{out}");
    assert!(!out.contains("&#43;"), "{out}");
}

#[test]
fn rest_xml_answers() {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<CreateSessionResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
         <Credentials>{}</Credentials></CreateSessionResult>",
        values()
    );
    let (keys, out) = exchange(Protocol::RestXml, ("s3", "CreateSession"), body.as_bytes()).expect("reads");
    assert_eq!((keys.len(), keys[0].ends), (1, at(1_700_000_000)));
    assert!(out.starts_with(b"<?xml") && contains(&out, OURS.session_token));
}

/// Each operation's answer by its own names, made from the table.
#[test]
fn json_and_cbor_answers_of_every_operation() {
    let table = include_str!("../table.txt");
    let mut seen = 0;
    for line in table.lines().filter(|l| l.contains("\tplaceholder\t")) {
        let mut fields = line.split('\t');
        let (service, operation) = (fields.next().expect("service"), fields.next().expect("operation"));
        for site in sites(service, operation) {
            let mut body = json!({site.id: ID, site.secret: SECRET, site.token: TOKEN, "other": [1, 2.5, null, "x"]});
            if !site.ends.is_empty() {
                body[site.ends] = json!(1_700_000_000.0);
            }
            for name in site.path.iter().rev() {
                body = if *name == "*" { json!([body]) } else { json!({*name: body, "beside": true}) };
            }
            let text = body.to_string();
            let (keys, out) = exchange(Protocol::Json11, (service, operation), text.as_bytes()).expect(line);
            assert_eq!((keys.len(), keys[0].secret_access_key.expose()), (1, SECRET), "{line}");
            assert_eq!(keys[0].ends, if site.ends.is_empty() { None } else { at(1_700_000_000) }, "{line}");
            let expected = text
                .replace(ID, OURS.access_key_id)
                .replace(SECRET, OURS.secret_access_key)
                .replace(TOKEN, OURS.session_token);
            let out: Value = serde_json::from_slice(&out).expect("JSON");
            assert_eq!(out, serde_json::from_str::<Value>(&expected).expect("JSON"), "{line}");

            let mut bytes = Vec::new();
            ciborium::into_writer(&body, &mut bytes).expect("written");
            let (keys, out) = exchange(Protocol::RpcV2Cbor, (service, operation), &bytes).expect(line);
            assert_eq!(keys[0].session_token.as_ref().map(Secret::expose), Some(TOKEN), "{line}");
            let out: Value = ciborium::from_reader(out.as_ref()).expect("CBOR");
            assert_eq!(out, serde_json::from_str::<Value>(&expected).expect("JSON"), "{line}");
            seen += 1;
        }
    }
    assert!(seen > 25, "{seen}");
}

#[test]
fn times_in_every_form() {
    for (value, expected) in [
        (json!("2023-11-14T22:13:20Z"), at(1_700_000_000)),
        (json!("2023-11-14T23:13:20+01:00"), at(1_700_000_000)),
        (json!(1_700_000_000), at(1_700_000_000)),
        (json!(1_700_000_000_000_u64), at(1_700_000_000)),
        (json!(900), Some(Ends::After(Duration::from_secs(900)))),
        (json!(null), None),
    ] {
        let body = json!({"Credentials": {"AccessKeyId": ID, "SecretKey": SECRET, "SessionToken": TOKEN, "Expiration": value}});
        let (keys, _) =
            exchange(Protocol::Json11, ("cognito-identity", "GetCredentialsForIdentity"), body.to_string().as_bytes())
                .expect("reads");
        assert_eq!(keys[0].ends, expected, "{value}");
    }
    let tagged = Cbor::Map(vec![(
        Cbor::Text("Credentials".into()),
        Cbor::Map(vec![
            (Cbor::Text("AccessKeyId".into()), Cbor::Text(ID.into())),
            (Cbor::Text("SecretKey".into()), Cbor::Text(SECRET.into())),
            (Cbor::Text("SessionToken".into()), Cbor::Text(TOKEN.into())),
            (Cbor::Text("Expiration".into()), Cbor::Tag(1, Box::new(Cbor::Integer(1_700_000_000.into())))),
        ]),
    )]);
    let mut bytes = Vec::new();
    ciborium::into_writer(&tagged, &mut bytes).expect("written");
    let (keys, out) =
        exchange(Protocol::RpcV2Cbor, ("cognito-identity", "GetCredentialsForIdentity"), &bytes).expect("reads");
    assert_eq!(keys[0].ends, at(1_700_000_000));
    let out: Cbor = ciborium::from_reader(out.as_ref()).expect("CBOR");
    assert!(format!("{out:?}").contains("Tag(1"), "the time keeps its tag: {out:?}");
}

#[test]
fn what_is_not_whole_or_elsewhere_is_not_passed_on() {
    let whole = values();
    let without = |name: &str| {
        let (before, rest) = whole.split_once(&format!("<{name}>")).expect("there");
        let (_, after) = rest.split_once(&format!("</{name}>")).expect("there");
        format!("{before}{after}")
    };
    let partial = |what| Err(AnswerError::Partial(what));
    let unreadable = Err(AnswerError::Unreadable(String::new()));
    let twice = format!("{whole}<AccessKeyId>{ID}</AccessKeyId>");
    for (body, expected) in [
        (assume_role(&without("AccessKeyId")), partial("id")),
        (assume_role(&without("SecretAccessKey")), partial("secret")),
        (assume_role(&without("SessionToken")), partial("session token")),
        (assume_role(&whole.replace(SECRET, "")), partial("value")),
        (assume_role(&whole.replace("2023-11-14T22:13:20Z", "soon")), Err(AnswerError::Moment)),
        (assume_role(&twice), unreadable.clone()),
        (assume_role(&whole.replace(SECRET, &format!("<![CDATA[{SECRET}]]>"))), unreadable.clone()),
        (assume_role(&whole).replace("</AssumeRoleResponse>", ""), unreadable.clone()),
        (assume_role(&whole).replace("Credentials>", "Secrets>"), Err(AnswerError::Elsewhere)),
        (assume_role(&whole).replace("AROA:s", SECRET), Err(AnswerError::Left)),
        (assume_role(&whole).replace("AROA:s", "AKIAANOTHERKEYOFAWSS"), Err(AnswerError::Elsewhere)),
        (assume_role(&whole).replace("AssumeRoleResult>", "a>"), Ok(())),
    ] {
        let result = exchange(Protocol::Query, ("sts", "AssumeRole"), body.as_bytes()).map(drop);
        match (&result, &expected) {
            (Err(AnswerError::Unreadable(_)), Err(AnswerError::Unreadable(_))) => {}
            _ => assert_eq!(result, expected, "{body}"),
        }
    }
    for body in ["", "no JSON", "\u{1f}\u{8b}"] {
        let result = exchange(Protocol::RestJson, ("sso", "GetRoleCredentials"), body.as_bytes());
        assert!(matches!(result, Err(AnswerError::Unreadable(_))), "{body}");
    }
    let number = json!({"roleCredentials": {"accessKeyId": ID, "secretAccessKey": 1, "sessionToken": TOKEN}});
    let result = exchange(Protocol::RestJson, ("sso", "GetRoleCredentials"), number.to_string().as_bytes());
    assert_eq!(result.map(drop), Err(AnswerError::Partial("text")));
    // An empty list of jobs has no keys.
    let (keys, out) = exchange(Protocol::Json11, ("codepipeline", "PollForJobs"), br#"{"jobs":[]}"#).expect("reads");
    assert_eq!((keys.len(), out.as_ref()), (0, &br#"{"jobs":[]}"#[..]));
}
