//! The decision.
//!
//! Owns the index of policies by action, the entities that are kept between decisions, and how the policies that
//! apply make one decision. Cedar evaluates each policy; what the answers mean here (forbids first, holds,
//! obligations, policies that could not be evaluated, several actions and resources at once) is decided in this
//! file. Pure: no I/O, no clock, no async; any thread may ask at any time.
//!
//! Each policy is evaluated by the evaluator of Cedar's core crate, which Cedar's own `Authorizer` calls too. Through
//! the latter every decision would copy its entities, close over their ancestors, and build each policy's expression
//! anew: several times the cost of evaluating. The core crate's interface may change with any version, so that the
//! root manifest asks for one exact version of it.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use cedar_policy_core::ast::{Context, Entity, EntityUIDEntry, Expr, Literal, Request, Value, ValueKind};
use cedar_policy_core::entities::{Entities, NoEntitiesSchema, TCComputation};
use cedar_policy_core::evaluator::Evaluator;
use cedar_policy_core::extensions::Extensions;

mod explain;

use super::catalog::ActionCatalog;
use super::rule::{Rule, UNKNOWN, in_group};
use super::shape::whole;
use super::terms::Terms;
use super::usage::Usage;
use super::{Decision, Effect, Obligations, Question, entity};
use crate::aws::AccessLevel;
use crate::aws::operation::Need;
use crate::identity::Principal;

/// Most actions, and most principals, that are kept; beyond that they are made anew for each decision.
const MAX_KEPT: usize = 4096;
/// Most answers that are kept of one action.
const MAX_PERMITTED: usize = 256;

#[derive(Debug)]
pub(super) struct Engine {
    pub rules: Vec<Arc<Rule>>,
    pub catalog: Arc<dyn ActionCatalog>,
    buckets: RwLock<HashMap<AccessLevel, HashMap<String, Arc<Bucket>>>>,
    /// By address, and only believed if equal: an address may be used again for somebody else.
    principals: RwLock<HashMap<usize, Arc<Known>>>,
}

/// All policies that can apply to one action.
#[derive(Debug)]
struct Bucket {
    /// The rules, forbids first.
    rules: Vec<Entry>,
    /// What they read; several where they read the same parameter as different things.
    usages: Vec<Usage>,
    /// The action with its groups.
    action: Arc<Entity>,
    /// Where no policy reads the context: what has been permitted, to whom, on which resource. Nothing else could make
    /// the answer another.
    permitted: RwLock<Vec<Permitted>>,
}

/// What has been permitted to one principal.
#[derive(Debug)]
struct Permitted {
    /// Held, so that its address is nobody else's.
    principal: Arc<Known>,
    permits: HashMap<Box<str>, Vec<usize>>,
}

/// A rule of a bucket.
#[derive(Debug)]
struct Entry {
    /// Its index.
    rule: usize,
    /// Its scope and conditions as one expression.
    condition: Expr,
    /// Index of the usage that covers it.
    usage: usize,
}

/// A principal and its entity.
#[derive(Debug)]
struct Known {
    principal: Principal,
    entity: Arc<Entity>,
}

/// What one action on one resource comes to.
enum Verdict {
    /// Indices of the permits that apply, in order.
    Permitted(Vec<usize>),
    Denied {
        policies: Vec<usize>,
        reason: String,
    },
}

impl Engine {
    pub fn new(rules: Vec<Arc<Rule>>, catalog: Arc<dyn ActionCatalog>) -> Self {
        Self { rules, catalog, buckets: RwLock::default(), principals: RwLock::default() }
    }

    pub fn decide(&self, question: &Question<'_>) -> Decision {
        self.judge_all(question).unwrap_or_else(|problem| Decision {
            effect: Effect::Deny,
            policies: Vec::new(),
            reason: format!("the request could not be put to the policies: {problem}"),
            obligations: Obligations::default(),
        })
    }

    /// Every action on each of its resources must be permitted; the first that is not makes the denial.
    fn judge_all(&self, question: &Question<'_>) -> Result<Decision, String> {
        let operation = question.operation;
        let principal = self.principal(question.principal);
        let unknown = [Need::new(UNKNOWN, Vec::new())];
        let needs = if operation.needs.is_empty() { &unknown[..] } else { &operation.needs[..] };
        let anything = ["*".to_owned()];
        let mut outcome = Outcome::default();
        for need in needs {
            let bucket =
                self.bucket(&need.action, if needs.len() == 1 { operation.access } else { AccessLevel::Unknown });
            let contexts: Vec<Context> = bucket.usages.iter().map(|usage| context(question, usage)).collect();
            let resources = if need.resources.is_empty() { &anything[..] } else { &need.resources[..] };
            for arn in resources {
                match self.judge(question, &principal, &bucket, arn, &contexts)? {
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
        principal: &Arc<Known>,
        bucket: &Bucket,
        arn: &str,
        contexts: &[Context],
    ) -> Result<Verdict, String> {
        if let Some(permits) = bucket.recall(principal, arn) {
            return Ok(Verdict::Permitted(permits));
        }
        asked(principal, bucket, arn, contexts, |evaluators| self.weigh(question, principal, bucket, arn, evaluators))
    }

    /// What the policies of a bucket come to, each evaluated.
    fn weigh(
        &self,
        question: &Question<'_>,
        principal: &Arc<Known>,
        bucket: &Bucket,
        arn: &str,
        evaluators: &[Evaluator<'_>],
    ) -> Verdict {
        let (mut forbids, mut permits) = (Vec::new(), Vec::new());
        let (mut doubt, mut failed) = (None, None);
        for entry in &bucket.rules {
            let (i, rule) = (&entry.rule, &self.rules[entry.rule]);
            if !rule.forbids() && (!forbids.is_empty() || doubt.is_some()) {
                break;
            }
            match (satisfied(&evaluators[entry.usage], &entry.condition), rule.forbids()) {
                (Ok(false), _) => {}
                (Ok(true), true) => forbids.push(*i),
                (Ok(true), false) => permits.push(*i),
                // A forbid that is skipped would permit.
                (Err(problem), true) => doubt = doubt.or(Some((*i, problem))),
                (Err(problem), false) => {
                    failed = Some(format!("policy `{}` could not be evaluated: {problem}", rule.name));
                }
            }
        }
        match doubt {
            _ if !forbids.is_empty() => self.forbidden(forbids, bucket, arn),
            Some((i, problem)) => self.forbidden_in_doubt(i, bucket, arn, &problem),
            None if permits.is_empty() => {
                Verdict::Denied { policies: permits, reason: nothing_permits(question, bucket, arn, failed) }
            }
            None => {
                bucket.keep(principal, arn, &permits);
                Verdict::Permitted(permits)
            }
        }
    }

    fn forbidden(&self, policies: Vec<usize>, bucket: &Bucket, arn: &str) -> Verdict {
        let reason = policies.iter().find_map(|i| self.rules[*i].reason.clone());
        let reason = reason.unwrap_or_else(|| {
            format!("policy `{}` forbids {} on {arn}", self.rules[policies[0]].name, bucket.action_id())
        });
        Verdict::Denied { policies, reason }
    }

    fn forbidden_in_doubt(&self, i: usize, bucket: &Bucket, arn: &str, problem: &str) -> Verdict {
        let (name, action) = (&self.rules[i].name, bucket.action_id());
        let reason = format!("policy `{name}`, which may forbid {action} on {arn}, cannot be evaluated: {problem}");
        Verdict::Denied { policies: vec![i], reason }
    }

    fn names(&self, rules: &[usize]) -> Vec<String> {
        rules.iter().map(|i| self.rules[*i].name.clone()).collect()
    }

    fn principal(&self, principal: &Principal) -> Arc<Known> {
        let address = std::ptr::from_ref(principal) as usize;
        if let Some(known) = read(&self.principals).get(&address)
            && known.principal == *principal
        {
            return known.clone();
        }
        let known = Arc::new(Known { principal: principal.clone(), entity: Arc::new(entity::principal(principal)) });
        let mut principals = write(&self.principals);
        if principals.len() >= MAX_KEPT {
            principals.clear();
        }
        principals.insert(address, known.clone());
        known
    }

    /// The policies for an action whose level is `fallback` if the catalog does not know it.
    fn bucket(&self, action: &str, fallback: AccessLevel) -> Arc<Bucket> {
        if let Some(bucket) = read(&self.buckets).get(&fallback).and_then(|b| b.get(action)) {
            return bucket.clone();
        }
        let bucket = Arc::new(self.fill(action, fallback));
        let mut buckets = write(&self.buckets);
        let kept = buckets.entry(fallback).or_default();
        if kept.len() < MAX_KEPT {
            kept.insert(action.to_owned(), bucket.clone());
        }
        bucket
    }

    fn fill(&self, action: &str, fallback: AccessLevel) -> Bucket {
        self.bucket_of(action, fallback, |rule, level| rule.applies(action, level))
    }

    fn bucket_of(&self, action: &str, fallback: AccessLevel, has: impl Fn(&Rule, &str) -> bool) -> Bucket {
        let known = self.catalog.level(action).filter(|level| *level != AccessLevel::Unknown);
        let level = entity::level_group(known.unwrap_or(fallback));
        let mut rules = Vec::new();
        let mut usages: Vec<Usage> = Vec::new();
        for (i, rule) in self.rules.iter().enumerate() {
            if has(rule, level) {
                let usage = usages.iter_mut().position(|u| u.join(&rule.usage)).unwrap_or_else(|| {
                    usages.push(rule.usage.clone());
                    usages.len() - 1
                });
                rules.push(Entry { rule: i, condition: rule.policy.as_ref().condition(), usage });
            }
        }
        rules.sort_by_key(|entry| !self.rules[entry.rule].forbids());
        let groups = self.rules.iter().flat_map(|r| r.scope.groups()).chain(entity::LEVELS);
        let groups: Vec<&str> = groups.filter(|g| in_group(action, level, g)).collect();
        let action = Arc::new(entity::action(action, &groups));
        Bucket { rules, usages, action, permitted: RwLock::default() }
    }
}

impl Bucket {
    fn action_id(&self) -> &str {
        self.action.uid().eid().as_ref()
    }

    fn reads_context(&self) -> bool {
        self.usages.iter().any(|usage| usage.whole || !usage.members.is_empty())
    }

    /// The permits that applied to the same question before.
    fn recall(&self, principal: &Arc<Known>, arn: &str) -> Option<Vec<usize>> {
        if self.reads_context() {
            return None;
        }
        let permitted = read(&self.permitted);
        permitted.iter().find(|p| Arc::ptr_eq(&p.principal, principal))?.permits.get(arn).cloned()
    }

    fn keep(&self, principal: &Arc<Known>, arn: &str, permits: &[usize]) {
        if self.reads_context() {
            return;
        }
        let mut permitted = write(&self.permitted);
        if permitted.iter().map(|p| p.permits.len()).sum::<usize>() >= MAX_PERMITTED {
            permitted.clear();
        }
        let at = permitted.iter().position(|p| Arc::ptr_eq(&p.principal, principal)).unwrap_or_else(|| {
            permitted.push(Permitted { principal: principal.clone(), permits: HashMap::new() });
            permitted.len() - 1
        });
        permitted[at].permits.insert(arn.into(), permits.to_vec());
    }
}

/// Puts one action on one resource to evaluators, one for each of the contexts.
fn asked<T>(
    principal: &Known,
    bucket: &Bucket,
    arn: &str,
    contexts: &[Context],
    with: impl FnOnce(&[Evaluator<'_>]) -> T,
) -> Result<T, String> {
    let resource = Arc::new(entity::resource(arn));
    let entry = |entity: &Entity| EntityUIDEntry::known(entity.uid().clone(), None);
    let request = |context: &Context| {
        let (who, what, on) = (entry(&principal.entity), entry(&bucket.action), entry(&resource));
        Request::new_unchecked(who, what, on, Some(context.clone()))
    };
    let requests: Vec<Request> = contexts.iter().map(request).collect();
    let entities = Entities::new()
        .add_entities(
            [principal.entity.clone(), bucket.action.clone(), resource.clone()],
            None::<&NoEntitiesSchema>,
            TCComputation::AssumeAlreadyComputed,
            Extensions::all_available(),
        )
        .map_err(|e| e.to_string())?;
    let evaluator = |request| Evaluator::new(request, &entities, Extensions::all_available());
    let evaluators: Vec<Evaluator<'_>> = requests.into_iter().map(evaluator).collect();
    Ok(with(&evaluators))
}

/// Whether a policy's scope and conditions hold.
fn satisfied(evaluator: &Evaluator<'_>, condition: &Expr) -> Result<bool, String> {
    match evaluator.interpret(condition, &HashMap::new()) {
        Ok(Value { value: ValueKind::Lit(Literal::Bool(holds)), .. }) => Ok(holds),
        Ok(other) => Err(format!("it came to {other}, which is neither true nor false")),
        Err(e) => Err(e.to_string()),
    }
}

/// What permits add up to, over all actions and resources.
#[derive(Default)]
struct Outcome {
    policies: Vec<usize>,
    approvals: Vec<String>,
    terms: Terms,
    reason: Option<String>,
    masks: Vec<String>,
    record_full: bool,
}

impl Outcome {
    /// Adds one action on one resource. A permit without approval makes one with it unnecessary; but what any of
    /// them wants masked or recorded is.
    fn add(&mut self, rules: &[Arc<Rule>], permits: &[usize]) {
        let free = permits.iter().copied().filter(|i| rules[*i].approval.is_none());
        let mut determining: Vec<usize> = free.collect();
        if determining.is_empty() {
            determining = permits.to_vec();
            // Any one of several approvers would do for this one; the first policy names whom to ask.
            let first = &rules[permits[0]];
            insert(&mut self.approvals, first.approval.as_ref());
            first.terms.iter().for_each(|terms| self.terms.join(terms));
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
            Some(group) => (
                Effect::Hold,
                self.reason.unwrap_or_else(|| format!("policy `{first}` needs the approval of `{group}`")),
            ),
            None => (Effect::Allow, format!("policy `{first}` permits it")),
        };
        let obligations =
            Obligations { approval, terms: self.terms, mask: joined(self.masks), record_full: self.record_full };
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
fn nothing_permits(question: &Question<'_>, bucket: &Bucket, arn: &str, failed: Option<String>) -> String {
    let action = bucket.action_id();
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
fn context(question: &Question<'_>, usage: &Usage) -> Context {
    if !usage.whole && usage.members.is_empty() {
        return Context::empty();
    }
    let (operation, session, process) = (question.operation, &question.session, &question.process);
    let member = |name: &str| match name {
        "endpoint" => question.endpoint.into(),
        "operation" => operation.name.as_str().into(),
        "region" => operation.region.as_str().into(),
        "service" => operation.service.as_str().into(),
        "credential" => {
            let c = &question.credential;
            Value::record([("kind", c.kind), ("account", c.account), ("arn", c.arn), ("operation", c.operation)], None)
        }
        "session" => Value::record([("id", session.id), ("name", session.name)], None),
        "process" => Value::record(
            [
                ("exe", Value::from(process.exe)),
                ("pid", i64::from(process.pid).into()),
                ("uid", i64::from(process.uid).into()),
            ],
            None,
        ),
        _ if usage.whole => whole(&operation.parameters),
        _ => usage.parameters.members(&operation.parameters),
    };
    let read = super::schema::CONTEXT.iter().filter(|name| usage.whole || usage.members.contains(**name));
    Context::Value(Arc::new(read.map(|name| ((*name).into(), member(name))).collect()))
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
