//! What the daemon tells of sessions and events, by its own command line.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Host, wait_for};

/// A session with all that is recorded of it.
#[derive(Debug, Clone, Deserialize)]
pub struct Timeline {
    pub session: Map<String, Value>,
    pub exchanges: Vec<Exchange>,
    pub events: Vec<Event>,
}

/// One request and its answer; see `docs` for the fields that are left out here.
#[derive(Debug, Clone, Deserialize)]
pub struct Exchange {
    pub subject: String,
    pub action: String,
    pub operation: String,
    pub host: String,
    pub target: String,
    pub resources: Vec<String>,
    /// JSON.
    pub parameters: String,
    pub decision: String,
    pub policies: Vec<String>,
    pub reason: String,
    pub status: Option<u16>,
    pub error: Option<String>,
    pub request_id: Option<String>,
    pub started: i64,
    pub ended: Option<i64>,
    pub bytes_sent: Option<i64>,
    pub bytes_received: Option<i64>,
    pub exe: String,
}

/// One event; `fields` are those that journald would show.
#[derive(Debug, Clone, Deserialize)]
pub struct Event {
    pub id: i64,
    pub kind: String,
    pub session: Option<String>,
    pub fields: Map<String, Value>,
}

impl Event {
    /// `TOLLGATE_REASON`.
    pub fn reason(&self) -> &str {
        self.field("TOLLGATE_REASON")
    }

    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).and_then(Value::as_str).unwrap_or_default()
    }
}

impl Timeline {
    pub fn id(&self) -> &str {
        self.session["id"].as_str().expect("an id")
    }

    pub fn state(&self) -> &str {
        self.session["state"].as_str().expect("a state")
    }

    /// The only exchange of that action.
    #[track_caller]
    pub fn only(&self, action: &str) -> &Exchange {
        let mut found = self.exchanges.iter().filter(|e| e.action == action);
        let first = found.next().unwrap_or_else(|| panic!("no {action} in {self:#?}"));
        assert!(found.next().is_none(), "more than one {action} in {self:#?}");
        first
    }

    /// The first event of a kind whose reason contains a text.
    #[track_caller]
    pub fn event(&self, kind: &str, reason: &str) -> &Event {
        self.events
            .iter()
            .find(|e| e.kind == kind && e.reason().contains(reason))
            .unwrap_or_else(|| panic!("no event `{kind}` with `{reason}` in {:#?}", self.events))
    }
}

impl Host {
    /// The newest session of that name, with its exchanges and events.
    #[track_caller]
    pub fn timeline(&self, name: &str) -> Timeline {
        let id = self.session_id(name).unwrap_or_else(|| panic!("there is no session `{name}`"));
        serde_json::from_str(&self.tollgate(&["sessions", "show", &id, "--json"]).ok()).expect("a timeline")
    }

    /// Its id, if there is one.
    pub fn session_id(&self, name: &str) -> Option<String> {
        let list: Vec<Map<String, Value>> =
            serde_json::from_str(&self.tollgate(&["sessions", "list", "--json"]).ok()).expect("sessions");
        list.iter().find(|s| s["name"] == name).map(|s| s["id"].as_str().expect("an id").to_owned())
    }

    /// The last events of a kind, the newest last.
    pub fn events(&self, kind: &str) -> Vec<Event> {
        let text = self.tollgate(&["events", "--json", "--limit", "1000", "--kind", kind]).ok();
        text.lines().map(|line| serde_json::from_str(line).expect("an event")).collect()
    }

    /// Waits for an event of a kind whose reason contains a text, also one without a session.
    #[track_caller]
    pub fn event(&self, kind: &str, reason: &str) -> Event {
        wait_for(&format!("an event `{kind}` with `{reason}`"), || {
            self.events(kind).into_iter().rev().find(|e| e.reason().contains(reason))
        })
    }
}
