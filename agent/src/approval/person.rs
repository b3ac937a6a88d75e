//! Who answers.
//!
//! Owns what makes two answers one person's, and whose request is one's own. How a person was recognised, and that their
//! groups are theirs, is the business of the way they came: the control socket, later a page. Pure.

use super::Ask;

/// A person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Person {
    /// On this host.
    Unix {
        uid: u32,
        /// The user who logged in, where the host keeps that; another one behind `sudo` and `su`.
        login: Option<u32>,
        /// The user's name, if there is one.
        name: Option<String>,
    },
    /// Recognised by an OIDC provider.
    Oidc { issuer: String, subject: String },
}

/// Someone who answers, and what they may answer for.
#[derive(Debug, Clone)]
pub struct Approver {
    pub person: Person,
    /// Names of the groups they are in, now.
    pub groups: Vec<String>,
    /// They count as a member of every group: root, if the configuration says so.
    pub every_group: bool,
    /// How they came, for the record: `control socket`.
    pub via: &'static str,
}

impl Approver {
    /// The same for the same person, however they came and as whom they act.
    pub(super) fn key(&self) -> String {
        match &self.person {
            Person::Unix { uid, login, .. } => format!("unix:{}", login.unwrap_or(*uid)),
            Person::Oidc { issuer, subject } => format!("oidc:{issuer}#{subject}"),
        }
    }

    /// For people to read.
    pub fn name(&self) -> String {
        match &self.person {
            Person::Unix { uid, login, name } => {
                let mut text = format!("user {uid}");
                if let Some(name) = name {
                    text += &format!(" ({name})");
                }
                if let Some(login) = login.filter(|login| login != uid) {
                    text += &format!(", logged in as user {login}");
                }
                text
            }
            Person::Oidc { issuer, subject } => format!("{subject} of {issuer}"),
        }
    }

    /// Whether the request is their own: an agent can have its user's other processes answer for it. Root is nobody's
    /// agent, but who became root by `sudo` is whoever they were.
    pub(super) fn asks(&self, ask: &Ask) -> bool {
        match &self.person {
            Person::Unix { uid, login, .. } => {
                [Some(*uid), *login].into_iter().flatten().any(|one| one != 0 && one == ask.uid)
            }
            Person::Oidc { issuer, subject } => {
                ask.issuer.as_deref() == Some(issuer.as_str()) && ask.subject == *subject
            }
        }
    }

    pub(super) fn is_in(&self, group: &str) -> bool {
        self.every_group || self.groups.iter().any(|g| g == group)
    }
}
