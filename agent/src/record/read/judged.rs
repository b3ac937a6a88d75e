//! What was judged, with all that the policies were told, so that it can be judged again.
//!
//! Owns the join of an exchange with its session and with the principal that the session acted for at the time.

use rusqlite::{Row, params};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Reader, lines};
use crate::record::RecordError;

/// An exchange as the policies saw it. Texts are as in [`super::ExchangeRow`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Judged {
    pub id: i64,
    pub session: String,
    pub session_name: String,
    /// The session's user.
    pub uid: u32,
    pub issuer: Option<String>,
    pub subject: String,
    pub groups: Vec<String>,
    pub claims: Map<String, Value>,
    pub pid: u32,
    pub exe: String,
    pub host: String,
    pub action: String,
    pub operation: String,
    pub resources: Vec<String>,
    pub region: String,
    pub account: Option<String>,
    pub parameters: String,
    pub decision: String,
    pub policies: Vec<String>,
    pub reason: String,
    pub observed: bool,
    pub facts: Option<String>,
}

/// Of several principals of one identity: the last one before the exchange, or the first one after it (a token that was
/// shown from inside is recorded once it has been taken).
const JUDGED: &str =
    "SELECT e.id, e.session, coalesce(s.name, ''), coalesce(s.uid, 0), e.issuer, e.subject, p.groups, p.claims,
    e.pid, e.exe, e.host, e.action, e.operation, e.resources, e.region, e.account, e.parameters, e.decision, e.policies,
    e.reason, e.observed, e.facts
    FROM exchange e LEFT JOIN session s ON s.id = e.session LEFT JOIN principal p ON p.id = (
        SELECT q.id FROM principal q WHERE q.session = e.session AND q.issuer IS e.issuer AND q.subject = e.subject
        ORDER BY q.at > e.started, abs(q.at - e.started) LIMIT 1)";

impl Reader {
    /// What a session's exchanges were judged by, in the order they were decided.
    pub fn judged(&self, session: &str) -> Result<Vec<Judged>, RecordError> {
        self.all(&format!("{JUDGED} WHERE e.session = ?1 ORDER BY e.id"), params![session], judged)
    }

    /// The same of one exchange.
    pub fn judged_one(&self, id: i64) -> Result<Option<Judged>, RecordError> {
        Ok(self.all(&format!("{JUDGED} WHERE e.id = ?1"), params![id], judged)?.pop())
    }

    /// The same of the newest exchange whose answer had this request id. Looks at all of them.
    pub fn judged_of_request(&self, request_id: &str) -> Result<Option<Judged>, RecordError> {
        let newest = "SELECT max(id) FROM exchange WHERE request_id = ?1";
        Ok(self.all(&format!("{JUDGED} WHERE e.id = ({newest})"), params![request_id], judged)?.pop())
    }
}

fn judged(r: &Row<'_>) -> rusqlite::Result<Judged> {
    let json = |text: Option<String>| text.and_then(|text| serde_json::from_str::<Value>(&text).ok());
    let groups = json(r.get(6)?).and_then(|v| serde_json::from_value(v).ok());
    let claims = match json(r.get(7)?) {
        Some(Value::Object(claims)) => claims,
        _ => Map::new(),
    };
    Ok(Judged {
        id: r.get(0)?,
        session: r.get(1)?,
        session_name: r.get(2)?,
        uid: r.get(3)?,
        issuer: r.get(4)?,
        subject: r.get(5)?,
        groups: groups.unwrap_or_default(),
        claims,
        pid: r.get(8)?,
        exe: r.get(9)?,
        host: r.get(10)?,
        action: r.get(11)?,
        operation: r.get(12)?,
        resources: lines(r.get(13)?),
        region: r.get(14)?,
        account: r.get(15)?,
        parameters: r.get(16)?,
        decision: r.get(17)?,
        policies: lines(r.get(18)?),
        reason: r.get(19)?,
        observed: r.get(20)?,
        facts: r.get(21)?,
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::record::testing::{Scratch, intent};
    use crate::record::{ExchangeId, Intent, Outcome, PrincipalRow};

    fn outcome(request_id: &str) -> Outcome {
        Outcome {
            status: 200,
            request_id: Some(request_id.into()),
            bytes_sent: 0,
            bytes_received: 0,
            ended: SystemTime::now(),
            error: None,
        }
    }

    #[tokio::test]
    async fn an_exchange_is_told_with_who_the_session_acted_for_at_the_time() {
        let scratch = Scratch::open();
        let now = SystemTime::now();
        let at = |seconds: u64| now + Duration::from_secs(seconds);
        let bound = |seconds, issuer: Option<&str>, group: &str| PrincipalRow {
            session: scratch.session.clone(),
            at: at(seconds),
            issuer: issuer.map(str::to_owned),
            subject: "s".into(),
            groups: format!("[\"{group}\"]"),
            claims: r#"{"n":1}"#.into(),
        };
        scratch.store.principal(bound(20, Some("https://i.example"), "second"));
        scratch.store.principal(bound(10, Some("https://i.example"), "first"));
        scratch.store.principal(bound(15, Some("https://other.example"), "stranger"));
        let mut ids = Vec::new();
        for started in [5, 12, 21] {
            let intent = Intent { started: at(started), facts: Some("{}".into()), ..intent(&scratch.session, 1) };
            ids.push(scratch.store.intent(intent).await.expect("written").0);
        }
        let nobody = Intent { issuer: None, subject: "unidentified".into(), ..intent(&scratch.session, 2) };
        scratch.store.intent(nobody).await.expect("written");
        scratch.store.flush().await;
        let reader = Reader::open(scratch.store.path()).expect("opens");
        let found = reader.judged(scratch.session.as_str()).expect("reads");
        let groups: Vec<_> = found.iter().map(|j| j.groups.join(" ")).collect();
        assert_eq!(groups, ["first", "first", "second", ""]);
        assert_eq!((&found[0].claims["n"], found[0].facts.as_deref()), (&Value::from(1), Some("{}")));
        let one = reader.judged_one(ids[2]).expect("reads").expect("is there");
        assert_eq!((one.id, one.groups.as_slice()), (ids[2], &["second".to_owned()][..]));
        assert!(reader.judged_one(99).expect("reads").is_none());
        scratch.store.outcome(ExchangeId(ids[1]), outcome("r-1"));
        scratch.store.flush().await;
        let of = |request: &str| reader.judged_of_request(request).expect("reads").map(|j| j.id);
        assert_eq!((of("r-1"), of("r-2")), (Some(ids[1]), None));
    }
}
