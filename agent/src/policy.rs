//! Cedar policies over principal, action, resource and parameters. Default deny.

use crate::aws::Operation;
use crate::identity::Principal;

/// What a policy is asked.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    pub principal: &'a Principal,
    pub operation: &'a Operation,
    pub session: SessionFacts<'a>,
    pub process: ProcessFacts<'a>,
    /// Host the request goes to.
    pub endpoint: &'a str,
}

/// What policies may know of the session.
#[derive(Debug, Clone, Copy)]
pub struct SessionFacts<'a> {
    pub id: &'a str,
    pub name: &'a str,
}

/// What policies may know of the process behind the connection.
#[derive(Debug, Clone, Copy)]
pub struct ProcessFacts<'a> {
    /// Path of the executable, or the kernel's `comm` where it is gone.
    pub exe: &'a str,
    pub pid: u32,
    pub uid: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    Allow,
    Deny,
    /// A person must approve first.
    Hold,
}

/// A decision, with the policies that determined it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub effect: Effect,
    /// Ids (`@id`, or `file.cedar#N`) of the determining policies; empty for the default deny.
    pub policies: Vec<String>,
    /// One sentence for the agent: the policy's `@reason`, or what is missing.
    pub reason: String,
    pub obligations: Obligations,
}

/// What the determining permits ask for besides letting it through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Obligations {
    /// `@approval("group")`
    pub approval: Option<String>,
    /// `@mask("profile")`
    pub mask: Option<String>,
    /// `@record("full")`; otherwise metadata only.
    pub record_full: bool,
}
