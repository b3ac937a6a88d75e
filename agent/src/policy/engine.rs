//! The decision.
//!
//! Owns the index of policies by action, the entities that are kept between decisions, and how the policies that
//! apply make one decision. Cedar evaluates; what its answer means here (obligations, holds, policies that could not
//! be evaluated, several actions and resources at once) is decided in this file. Pure: no I/O, no clock, no async;
//! any thread may ask at any time.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use cedar_policy::{Authorizer, Context, Entities, Entity, EntityUid, PolicyId, PolicySet, Request};
use cedar_policy::{Policy, RestrictedExpression as Expr};

use super::catalog::ActionCatalog;
use super::rule::{Rule, UNKNOWN, in_group};
use super::shape::{Shape, whole};
use super::usage::Usage;
use super::{Decision, Effect, Obligations, Question, entity};
use crate::aws::AccessLevel;
use crate::identity::Principal;

/// Most actions, and most principals, that are kept; beyond that they are made anew for each decision.
const MAX_KEPT: usize = 4096;

#[derive(Debug)]
pub(super) struct Engine {
    pub rules: Vec<Rule>,
    catalog: Arc<dyn ActionCatalog>,
    authorizer: Authorizer,
    buckets: RwLock<HashMap<AccessLevel, HashMap<String, Arc<Bucket>>>>,
    /// By address, and only believed if equal: an address may be used again for somebody else.
    principals: RwLock<HashMap<usize, Arc<Known>>>,
}

/// All policies that can apply to one action.
#[derive(Debug)]
struct Bucket {
    policies: PolicySet,
    usage: Usage,
    uid: EntityUid,
    /// The action with its groups.
    entities: Entities,
}

/// A principal and its entity.
#[derive(Debug)]
struct Known {
    principal: Principal,
    entity: Entity,
    uid: EntityUid,
}

/// What one action on one resource comes to.
enum Verdict {
    /// Indices of the permits that apply, in order.
    Permitted(Vec<usize>),
    Denied { policies: Vec<usize>, reason: String },
}

impl Engine {
    pub fn new(rules: Vec<Rule>, catalog: Arc<dyn ActionCatalog>) -> Self {
        Self {
            rules,
            catalog,
            authorizer: Authorizer::new(),
            buckets: RwLock::default(),
            principals: RwLock::default(),
        }
    }

    pub fn decide(&self, question: &Question<'_>) -> Decision {
        self.judge_all(question).unwrap_or_else(|problem| Decision {
            effect: Effect::Deny,
            policies: Vec::new(),
            reason: format!("the request could not be put to the policies: {problem}"),
            obligations: Obligations::default(),
        })
    }

    /// Every action on every resource must be permitted; the first that is not makes the denial.
    fn judge_all(&self, question: &Question<'_>) -> Result<Decision, String> {
        let operation = question.operation;
        let principal = self.principal(question.principal)?;
        let unknown = [UNKNOWN.to_owned()];
        let actions = if operation.actions.is_empty() { &unknown[..] } else { &operation.actions[..] };
        let anything = ["*".to_owned()];
        let resources = if operation.resources.is_empty() { &anything[..] } else { &operation.resources[..] };
        let mut outcome = Outcome::default();
        for action in actions {
            let bucket = self.bucket(action, if actions.len() == 1 { operation.access } else { AccessLevel::Unknown })?;
            let context = context(question, &bucket.usage)?;
            for arn in resources {
                match self.judge(question, &principal, &bucket, action, arn, context.clone())? {
                    Verdict::Permitted(permits) => outcome.add(&self.rules, &permits),
                    Verdict::Denied { policies, reason } => {
                        return Ok(Decision {
                            effect: Effect::Deny,
                            policies: self.names(&policies),
                            reason,
                            obligations: Obligations::default(),
                        });
                    }
                }
            }
        }
        Ok(outcome.decision(self))
    }

    fn judge(
        &self,
        question: &Question<'_>,
        principal: &Known,
        bucket: &Bucket,
        action: &str,
        arn: &str,
        context: Context,
    ) -> Result<Verdict, String> {
        let resource = entity::resource(arn)?;
        let request =
            Request::new(principal.uid.clone(), bucket.uid.clone(), resource.uid(), context, None).map_err(|e| e.to_string())?;
        let entities = bucket
            .entities
            .clone()
            .add_entities([principal.entity.clone(), resource], None)
            .map_err(|e| e.to_string())?;
        let response = self.authorizer.is_authorized(&request, &bucket.policies, &entities);
        let mut applying = response.diagnostics().reason().map(index).collect::<Result<Vec<usize>, String>>()?;
        applying.sort_unstable();
        let forbids: Vec<usize> = applying.iter().copied().filter(|i| self.rules[*i].forbids()).collect();
        if !forbids.is_empty() {
            let reason = forbids.iter().find_map(|i| self.rules[*i].reason.clone());
            let reason = reason.unwrap_or_else(|| format!("policy `{}` forbids {action} on {arn}", self.rules[forbids[0]].name));
            return Ok(Verdict::Denied { policies: forbids, reason });
        }
        let mut failed = None;
        for error in response.diagnostics().errors() {
            let cedar_policy::AuthorizationError::PolicyEvaluationError(error) = error;
            let i = index(error.policy_id())?;
            let name = &self.rules[i].name;
            // Cedar skips a policy that it cannot evaluate; skipping what forbids would permit.
            if self.rules[i].forbids() {
                let reason = format!("policy `{name}`, which may forbid {action} on {arn}, cannot be evaluated: {error}");
                return Ok(Verdict::Denied { policies: vec![i], reason });
            }
            failed = Some(format!("policy `{name}` could not be evaluated: {error}"));
        }
        if applying.is_empty() {
            let reason = nothing_permits(question, action, arn, failed);
            return Ok(Verdict::Denied { policies: Vec::new(), reason });
        }
        Ok(Verdict::Permitted(applying))
    }

    fn names(&self, rules: &[usize]) -> Vec<String> {
        rules.iter().map(|i| self.rules[*i].name.clone()).collect()
    }

    fn principal(&self, principal: &Principal) -> Result<Arc<Known>, String> {
        let address = std::ptr::from_ref(principal) as usize;
        if let Some(known) = read(&self.principals).get(&address)
            && known.principal == *principal
        {
            return Ok(known.clone());
        }
        let entity = entity::principal(principal)?;
        let known = Arc::new(Known { principal: principal.clone(), uid: entity.uid(), entity });
        let mut principals = write(&self.principals);
        if principals.len() >= MAX_KEPT {
            principals.clear();
        }
        principals.insert(address, known.clone());
        Ok(known)
    }

    /// The policies for an action whose level is `fallback` if the catalog does not know it.
    fn bucket(&self, action: &str, fallback: AccessLevel) -> Result<Arc<Bucket>, String> {
        if let Some(bucket) = read(&self.buckets).get(&fallback).and_then(|b| b.get(action)) {
            return Ok(bucket.clone());
        }
        let bucket = Arc::new(self.fill(action, fallback)?);
        let mut buckets = write(&self.buckets);
        let kept = buckets.entry(fallback).or_default();
        if kept.len() < MAX_KEPT {
            kept.insert(action.to_owned(), bucket.clone());
        }
        Ok(bucket)
    }

    fn fill(&self, action: &str, fallback: AccessLevel) -> Result<Bucket, String> {
        let known = self.catalog.level(action).filter(|level| *level != AccessLevel::Unknown);
        let level = entity::level_group(known.unwrap_or(fallback));
        // An operation that was not recognised may be anything: only a policy that names this very case permits it.
        let unrecognised = action.split(':').any(|part| part == "unknown");
        let mut policies = PolicySet::new();
        let mut usage = Usage::default();
        for (i, rule) in self.rules.iter().enumerate() {
            let applies = rule.scope.covers(action, level) && (rule.forbids() || !unrecognised || rule.scope.names(action));
            if applies {
                policies.add(numbered(&rule.policy, i)).map_err(|e| e.to_string())?;
                usage.widen(&rule.usage);
            }
        }
        let groups = self.rules.iter().flat_map(|r| r.scope.groups()).chain(entity::LEVELS);
        let groups: Vec<&str> = groups.filter(|g| in_group(action, level, g)).collect();
        let entities =
            Entities::from_entities([entity::action(action, &groups)], None).map_err(|e| e.to_string())?;
        Ok(Bucket { policies, usage, uid: entity::action_uid(action), entities })
    }
}

/// What permits add up to, over all actions and resources.
#[derive(Default)]
struct Outcome {
    policies: Vec<usize>,
    approvals: Vec<String>,
    reason: Option<String>,
    masks: Vec<String>,
    record_full: bool,
}

impl Outcome {
    /// Adds one action on one resource. A permit without approval makes one with it unnecessary; but what any of
    /// them wants masked or recorded is.
    fn add(&mut self, rules: &[Rule], permits: &[usize]) {
        let free = permits.iter().copied().filter(|i| rules[*i].approval.is_none());
        let mut determining: Vec<usize> = free.collect();
        if determining.is_empty() {
            determining = permits.to_vec();
            // Any one of several approvers would do for this one; the first policy names whom to ask.
            let first = &rules[permits[0]];
            insert(&mut self.approvals, first.approval.as_ref());
            self.reason = self.reason.take().or_else(|| first.reason.clone());
        }
        for i in determining {
            if !self.policies.contains(&i) {
                self.policies.push(i);
            }
        }
        for rule in permits.iter().map(|i| &rules[*i]) {
            insert(&mut self.masks, rule.mask.as_ref());
            self.record_full |= rule.record_full;
        }
    }

    fn decision(self, engine: &Engine) -> Decision {
        let joined = |names: Vec<String>| (!names.is_empty()).then(|| names.join(","));
        let approval = joined(self.approvals);
        let names = engine.names(&self.policies);
        let first = names.first().map_or("", String::as_str);
        let (effect, reason) = match &approval {
            Some(group) => {
                (Effect::Hold, self.reason.unwrap_or_else(|| format!("policy `{first}` needs the approval of `{group}`")))
            }
            None => (Effect::Allow, format!("policy `{first}` permits it")),
        };
        let obligations = Obligations { approval, mask: joined(self.masks), record_full: self.record_full };
        Decision { effect, policies: names, reason, obligations }
    }
}

fn insert(list: &mut Vec<String>, name: Option<&String>) {
    if let Some(name) = name
        && !list.contains(name)
    {
        list.push(name.clone());
    }
}

/// The sentence of the default deny: what is missing, and what to do.
fn nothing_permits(question: &Question<'_>, action: &str, arn: &str, failed: Option<String>) -> String {
    if action == UNKNOWN {
        return format!(
            "this request to {} is not recognised as an AWS operation, and no policy permits `AWS::Action::\"{UNKNOWN}\"`",
            question.endpoint
        );
    }
    let who = &question.principal.subject;
    let advice = match failed {
        Some(problem) => problem,
        None if !question.principal.is_identified() => {
            "the session has no verified identity: start it with a token (`tollgate run --identity-token-file`)".into()
        }
        None => "add a permit for it, or ask whoever keeps the policies".into(),
    };
    format!("no policy permits {action} on {arn} for {who}; {advice}")
}

/// The context, as far as policies read it.
fn context(question: &Question<'_>, usage: &Usage) -> Result<Context, String> {
    if !usage.whole && usage.members.is_empty() {
        return Ok(Context::empty());
    }
    let text = |value: &str| Expr::new_string(value.to_owned());
    let record = |members: Vec<(&str, Expr)>| {
        Expr::new_record(members.into_iter().map(|(name, value)| (name.to_owned(), value))).map_err(|e| e.to_string())
    };
    let (operation, session, process) = (question.operation, &question.session, &question.process);
    let mut pairs = Vec::with_capacity(7);
    for member in super::schema::CONTEXT.iter().chain(&["parameters"]) {
        if !usage.whole && !usage.members.contains(*member) {
            continue;
        }
        let value = match *member {
            "endpoint" => text(question.endpoint),
            "operation" => text(&operation.name),
            "region" => text(&operation.region),
            "service" => text(&operation.service),
            "session" => record(vec![("id", text(session.id)), ("name", text(session.name))])?,
            "process" => record(vec![
                ("exe", text(process.exe)),
                ("pid", Expr::new_long(process.pid.into())),
                ("uid", Expr::new_long(process.uid.into())),
            ])?,
            _ if usage.whole => whole(&operation.parameters),
            _ => parameters(&usage.parameters, operation)?,
        };
        pairs.push(((*member).to_owned(), value));
    }
    Context::from_pairs(pairs).map_err(|e| e.to_string())
}

fn parameters(shape: &Shape, operation: &crate::aws::Operation) -> Result<Expr, String> {
    let Shape::Record(members) = shape else { return Err("the parameters are not a record".into()) };
    let present = members
        .iter()
        .filter_map(|(name, shape)| Some((name.clone(), shape.convert(operation.parameters.get(name)?)?)));
    Expr::new_record(present).map_err(|e| e.to_string())
}

/// The policy under its number as id, which leads back to its rule.
fn numbered(policy: &Policy, i: usize) -> Policy {
    policy.new_id(PolicyId::new(i.to_string()))
}

fn index(id: &PolicyId) -> Result<usize, String> {
    AsRef::<str>::as_ref(id).parse().map_err(|_| format!("an answer names policy `{id}`, which there is not"))
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
