//! Single values: texts of forms, XML and heads as what the model says they are, and timestamps in one form.
//!
//! Pure. A text that is not what the model says stays as it is: it is no reason to refuse a request, and no policy takes
//! it for a value.

use serde_json::{Number, Value};
use time::OffsetDateTime;
use time::format_description::well_known::{Rfc2822, Rfc3339};

use crate::aws::model::Kind;

/// A text as what its shape says; as it is where it does not fit.
pub(super) fn scalar(kind: Kind<'_>, text: &str) -> Value {
    let number = |n: Option<Number>| n.map_or_else(|| Value::String(text.to_owned()), Value::Number);
    match kind {
        Kind::Integer => number(text.parse::<i64>().ok().map(Number::from)),
        Kind::Float => number(text.parse::<f64>().ok().and_then(Number::from_f64)),
        Kind::Boolean if text == "true" || text == "false" => Value::Bool(text == "true"),
        Kind::Timestamp => Value::String(timestamp(text).unwrap_or_else(|| text.to_owned())),
        _ => Value::String(text.to_owned()),
    }
}

/// A value of a body that has types of its own (JSON, CBOR) as what its shape says.
pub(super) fn settle(kind: Kind<'_>, value: &mut Value) {
    if !matches!(kind, Kind::Timestamp) {
        return;
    }
    let found = match &*value {
        Value::Number(n) => timestamp(&n.to_string()),
        Value::String(text) => timestamp(text),
        _ => None,
    };
    if let Some(text) = found {
        *value = Value::String(text);
    }
}

/// RFC 3339 in UTC, from that, from the dates of HTTP, or from seconds since 1970.
fn timestamp(text: &str) -> Option<String> {
    let time = if text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b)) {
        let seconds: f64 = text.parse().ok()?;
        // As exact as clients write it, and within what has a date.
        if !(-6.2e10..2.5e11).contains(&seconds) {
            return None;
        }
        OffsetDateTime::from_unix_timestamp_nanos((seconds * 1e6).round() as i128 * 1000).ok()?
    } else {
        OffsetDateTime::parse(text, &Rfc3339).or_else(|_| OffsetDateTime::parse(text, &Rfc2822)).ok()?
    };
    time.to_offset(time::UtcOffset::UTC).format(&Rfc3339).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_have_one_form() {
        for (text, expected) in [
            ("2026-01-02T03:04:05Z", Some("2026-01-02T03:04:05Z")),
            ("2026-01-02T04:04:05+01:00", Some("2026-01-02T03:04:05Z")),
            ("2026-01-02T03:04:05.123Z", Some("2026-01-02T03:04:05.123Z")),
            ("Fri, 02 Jan 2026 03:04:05 GMT", Some("2026-01-02T03:04:05Z")),
            ("1767323045", Some("2026-01-02T03:04:05Z")),
            ("1767323045.5", Some("2026-01-02T03:04:05.5Z")),
            ("1.767323045e9", Some("2026-01-02T03:04:05Z")),
            ("1e300", None),
            ("NaN", None),
            ("-", None),
            ("tomorrow", None),
        ] {
            assert_eq!(timestamp(text).as_deref(), expected, "{text}");
        }
    }
}
