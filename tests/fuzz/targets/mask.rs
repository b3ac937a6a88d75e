//! Answers that are masked while they pass: however they are cut, the same comes out, and what is hidden never does.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use tollgate::aws::endpoint::resolve;
use tollgate::aws::operation::{Scope, route};
use tollgate::mask::{Answer, Masks, Master, View, When};
use tollgate_fuzz::{ACCOUNT, message};

/// Stands in an input for what must not come out.
const MARK: u8 = 0xff;
const SECRET: &[u8] = b"S3CR3T-MARKER";
const RULES: &str = r#"
[[pattern]]
name = "marker"
regex = "S3CR3T-MARKER"
[[rule]]
action = "s3:GetObject"
resource = "arn:aws:s3:::json/*"
as = "json"
path = "$.Body"
patterns = "marker"
[[rule]]
action = "s3:GetObject"
resource = "arn:aws:s3:::paths/*"
as = "json"
path = ["$.Body.a", "$.Body..b[1]", "$.Body[*].c.*"]
[[rule]]
action = "s3:GetObject"
resource = "arn:aws:s3:::xml/*"
as = "xml"
path = ["$.Body.a.b", "$.Body..c", "$.Body.d[*].@e"]
[[rule]]
action = "s3:GetObject"
resource = "arn:aws:s3:::cbor/*"
as = "cbor"
path = "$.Body"
patterns = "marker"
[[rule]]
action = "s3:GetObject"
resource = "arn:aws:s3:::text/*"
as = "text"
path = "$.Body"
patterns = ["marker", "email", "card-number", "phone", "jwt", "private-key"]
"#;

/// Buckets of the rules, and whether all that is marked in them must be hidden.
const FORMS: [(&str, bool); 5] = [("json", true), ("paths", false), ("xml", false), ("cbor", true), ("text", true)];

fn views() -> &'static [View] {
    static VIEWS: OnceLock<Vec<View>> = OnceLock::new();
    VIEWS.get_or_init(|| {
        let masks = Masks::parse("fuzz.toml", RULES, When::Asked, Vec::new()).expect("good rules");
        FORMS
            .iter()
            .map(|(bucket, _)| {
                let head = format!("GET {bucket}.s3.us-east-1.amazonaws.com /k");
                let message = message(head.as_bytes()).expect("a request");
                let endpoint = resolve(message.host).expect("AWS's");
                let scope = Scope { region: "us-east-1", service: "s3" };
                let route = route(&endpoint, Some(scope), &message.parts).expect("an operation");
                let operation = route.finish("", None, Some(ACCOUNT)).expect("an operation");
                masks.agent(&operation, None).expect("a rule is about it")
            })
            .collect()
    })
}

/// What comes out of pieces of this length.
fn through(view: &View, answer: &Answer<'_>, body: &[u8], step: usize) -> Result<Vec<u8>, String> {
    let key = Master::new([7; 32]).kept("s-1");
    let mut stream = view.stream(answer, key).map_err(|e| e.to_string())?.expect("something to hide");
    let mut out = Vec::new();
    for piece in body.chunks(step.max(1)) {
        stream.push(piece, &mut out).map_err(|e| e.to_string())?;
    }
    stream.finish(&mut out).map_err(|e| e.to_string())?;
    Ok(out)
}

fuzz_target!(|data: &[u8]| {
    let [form, step, rest @ ..] = data else { return };
    let which = usize::from(*form) % FORMS.len();
    let coding = ["", "gzip", "deflate", "br", "zstd"][usize::from(*form / 5) % 5];
    let answer = Answer { content_encoding: Some(coding), ..Answer::default() };
    let body = rest.split(|b| *b == MARK).collect::<Vec<_>>().join(SECRET);
    let view = &views()[which];
    let whole = through(view, &answer, &body, body.len());
    for step in [usize::from(*step) + 1, 1, 7] {
        assert_eq!(through(view, &answer, &body, step), whole, "cut every {step} bytes");
    }
    if let (Ok(out), true) = (whole, FORMS[which].1 && coding.is_empty()) {
        assert!(!out.windows(SECRET.len()).any(|w| w == SECRET), "the secret came out");
        assert!(!out.is_empty() || body.is_empty(), "what is not empty does not vanish");
    }
});
