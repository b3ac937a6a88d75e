//! What a policy reads of the context.
//!
//! Owns the walk over a policy's conditions in Cedar's JSON form. It finds which members of the context are read, so
//! that a decision builds no others, and which parameters are read as what, so that the schema can be checked before
//! any request comes. Pure.

use std::collections::BTreeSet;

use serde_json::Value;

use super::shape::Shape;

/// What one or more policies read of the context.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Usage {
    /// Members of the context (`session`); `parameters` is among them if it is read at all.
    pub members: BTreeSet<String>,
    /// Parameters and their types, always a record.
    pub parameters: Shape,
    /// The context or the parameters are used as a whole, so everything is needed.
    pub whole: bool,
}

impl Default for Usage {
    fn default() -> Self {
        Self { members: BTreeSet::new(), parameters: Shape::empty(), whole: false }
    }
}

impl Usage {
    /// What the policy of this JSON form reads; `Err`: what cannot be understood.
    pub fn of(policy: &Value) -> Result<Self, String> {
        let mut usage = Self::default();
        for condition in policy["conditions"].as_array().into_iter().flatten() {
            usage.walk(&condition["body"], 0)?;
        }
        Ok(usage)
    }

    /// Adds what another policy reads; `false`, and nothing is added: it reads a parameter as something else.
    pub fn join(&mut self, other: &Self) -> bool {
        let mut parameters = self.parameters.clone();
        if self.whole != other.whole || parameters.merge(other.parameters.clone()).is_err() {
            return false;
        }
        self.parameters = parameters;
        self.members.extend(other.members.iter().cloned());
        true
    }

    fn walk(&mut self, node: &Value, depth: usize) -> Result<(), String> {
        if depth > 500 {
            return Err("it is nested too deeply".into());
        }
        // A record literal is written as an object, anything else as an object of one member: the operator.
        let Some((operator, body)) = node.as_object().and_then(|o| o.iter().next()) else { return Ok(()) };
        if let Some(path) = path(node) {
            // Read without an operator that says more.
            return self.read(&path, Shape::Any);
        }
        let (left, right) = (&body["left"], &body["right"]);
        match operator.as_str() {
            "Value" | "Slot" | "Var" => return Ok(()),
            "has" => {
                let names = match &body["attr"] {
                    Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
                    Value::String(name) => vec![name.as_str()],
                    _ => vec![],
                };
                if let Some(mut path) = path(left) {
                    path.extend(names.into_iter().map(str::to_owned));
                    return self.read(&path, Shape::Any);
                }
            }
            "==" | "!=" => {
                self.expect(left, shape(right))?;
                self.expect(right, shape(left))?;
            }
            "<" | "<=" | ">" | ">=" if [left, right].into_iter().any(|side| shape(side) == Shape::Time) => {
                self.expect(left, Shape::Time)?;
                self.expect(right, Shape::Time)?;
            }
            "<" | "<=" | ">" | ">=" | "+" | "-" | "*" => {
                self.expect(left, Shape::Number)?;
                self.expect(right, Shape::Number)?;
            }
            "neg" => self.expect(&body["arg"], Shape::Number)?,
            "!" => self.expect(&body["arg"], Shape::Truth)?,
            "&&" | "||" => {
                self.expect(left, Shape::Truth)?;
                self.expect(right, Shape::Truth)?;
            }
            "like" => self.expect(left, Shape::Text)?,
            "lessThan" | "lessThanOrEqual" | "greaterThan" | "greaterThanOrEqual" => {
                for side in body.as_array().into_iter().flatten() {
                    self.expect(side, Shape::Decimal)?;
                }
            }
            "isEmpty" => self.expect(&body["arg"], Shape::Set(Box::new(Shape::Any)))?,
            "contains" => {
                self.expect(left, Shape::Set(Box::new(shape(right))))?;
                if let Shape::Set(element) = shape(left) {
                    self.expect(right, *element)?;
                }
            }
            "containsAll" | "containsAny" => {
                for (one, other) in [(left, right), (right, left)] {
                    let other = shape(other);
                    self.expect(one, if other == Shape::Any { Shape::Set(Box::new(Shape::Any)) } else { other })?;
                }
            }
            _ => {}
        }
        self.children(operator, body, depth)
    }

    fn children(&mut self, operator: &str, body: &Value, depth: usize) -> Result<(), String> {
        match (operator, body) {
            (_, Value::Array(list)) => list.iter().try_for_each(|v| self.walk(v, depth + 1)),
            // Names of members are not operators.
            ("Record", Value::Object(members)) => members.values().try_for_each(|v| self.walk(v, depth + 1)),
            (_, Value::Object(parts)) => ["left", "right", "arg", "in", "if", "then", "else"]
                .iter()
                .filter_map(|name| parts.get(*name))
                .try_for_each(|v| self.walk(v, depth + 1)),
            _ => Ok(()),
        }
    }

    fn expect(&mut self, node: &Value, shape: Shape) -> Result<(), String> {
        match path(node) {
            Some(path) => self.read(&path, shape),
            None => Ok(()),
        }
    }

    fn read(&mut self, path: &[String], shape: Shape) -> Result<(), String> {
        let Some((member, parameter)) = path.split_first() else {
            self.whole = true;
            return Ok(());
        };
        self.members.insert(member.clone());
        if member != "parameters" || parameter.is_empty() {
            // `context has parameters` says nothing of them; compared as a whole, they must all be there.
            self.whole |= member == "parameters" && shape != Shape::Any;
            return Ok(());
        }
        self.parameters.merge(Shape::at(parameter, shape)).map_err(|(a, b)| {
            let name = parameter.join(".");
            format!("`context.parameters.{name}` is used as {} and as {}", a.describe(), b.describe())
        })
    }
}

/// `context.a.b` as `[a, b]`, and `context` as the empty path; `None` if it is something else.
fn path(node: &Value) -> Option<Vec<String>> {
    if node["Var"] == "context" {
        return Some(vec![]);
    }
    let access = node.as_object()?.get(".")?;
    let mut path = path(&access["left"])?;
    path.push(access["attr"].as_str()?.to_owned());
    Some(path)
}

/// What an expression that is not a parameter evaluates to, as far as its form tells.
fn shape(node: &Value) -> Shape {
    let Some((operator, body)) = node.as_object().and_then(|o| o.iter().next()) else { return Shape::Any };
    match (operator.as_str(), body) {
        ("Value", Value::String(_)) => Shape::Text,
        ("Value", Value::Number(_)) => Shape::Number,
        ("Value", Value::Bool(_)) => Shape::Truth,
        ("Value" | "Set", Value::Array(list)) => Shape::Set(Box::new(match list.first() {
            Some(first @ Value::Object(_)) => shape(first),
            Some(Value::String(_)) => Shape::Text,
            Some(Value::Number(_)) => Shape::Number,
            Some(Value::Bool(_)) => Shape::Truth,
            _ => Shape::Any,
        })),
        ("+" | "-" | "*" | "neg", _) => Shape::Number,
        ("like" | "has" | "contains" | "==" | "<" | "!", _) => Shape::Truth,
        ("datetime" | "offset" | "toDate", _) => Shape::Time,
        ("decimal", _) => Shape::Decimal,
        ("getTag", _) => Shape::Set(Box::new(Shape::Text)),
        (".", _) => match path(node).as_deref() {
            Some([parameters, ..]) if parameters == "parameters" => Shape::Any,
            Some([_, member]) if member == "pid" || member == "uid" => Shape::Number,
            // Every attribute of principals, resources and the rest of the context is text.
            _ if body["attr"] == "identified" => Shape::Truth,
            _ => Shape::Text,
        },
        _ => Shape::Any,
    }
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;

    fn usage(condition: &str) -> Result<Usage, String> {
        let policy = format!("permit(principal, action, resource) when {{ {condition} }};");
        Usage::of(&cedar_policy::Policy::from_str(&policy).unwrap().to_json().unwrap())
    }

    fn parameter(condition: &str) -> Shape {
        let Shape::Record(mut members) = usage(condition).unwrap().parameters else { panic!() };
        members.remove("X").unwrap()
    }

    #[test]
    fn infers_types_from_use() {
        let set = |s| Shape::Set(Box::new(s));
        for (condition, expected) in [
            (r#"context.parameters.X == "a""#, Shape::Text),
            (r#""a" != context.parameters.X"#, Shape::Text),
            ("context.parameters.X > 5", Shape::Number),
            ("5 + context.parameters.X == 1", Shape::Number),
            ("-context.parameters.X == 1", Shape::Number),
            ("!context.parameters.X", Shape::Truth),
            ("true && context.parameters.X", Shape::Truth),
            (r#"context.parameters.X like "a*""#, Shape::Text),
            (r#"context.parameters.X.contains("a")"#, set(Shape::Text)),
            (r#"context.parameters.X.containsAny([1])"#, set(Shape::Number)),
            (r#"["a"].contains(context.parameters.X)"#, Shape::Text),
            (r#"["a"].containsAll(context.parameters.X)"#, set(Shape::Text)),
            ("context.parameters.X.isEmpty()", set(Shape::Any)),
            (r#"context["parameters"]["X"] == 1"#, Shape::Number),
            ("context.parameters has X", Shape::Any),
            (r#"context.parameters.X < datetime("2026-01-01")"#, Shape::Time),
            (r#"context.parameters.X == datetime("2026-01-01")"#, Shape::Time),
            (r#"context.parameters.X.lessThan(decimal("0.5"))"#, Shape::Decimal),
            ("context.parameters has X.Y && context.parameters.X.Y > 1", Shape::at(&["Y".into()], Shape::Number)),
            ("context.parameters.X == resource.account", Shape::Text),
            ("context.parameters.X == context.process.uid", Shape::Number),
            ("if context.parameters has X then context.parameters.X == 1 else false", Shape::Number),
            ("{a: context.parameters.X > 1}.a", Shape::Number),
        ] {
            assert_eq!(parameter(condition), expected, "{condition}");
        }
    }

    #[test]
    fn a_parameter_has_one_type() {
        let problem = usage(r#"context.parameters.X == "a" || context.parameters.X > 1"#).unwrap_err();
        assert_eq!(problem, "`context.parameters.X` is used as text and as a number");
    }

    #[test]
    fn notes_what_is_read() {
        let read = usage(r#"context.session.name == "x" && context.process.uid == 0"#).unwrap();
        assert_eq!(read.members.iter().map(String::as_str).collect::<Vec<_>>(), ["process", "session"]);
        assert!(!read.whole);
        assert_eq!(usage("principal.identified").unwrap(), Usage::default());
        assert!(usage("context == context").unwrap().whole);
        assert!(usage("context.parameters == {a: 1}").unwrap().members.contains("parameters"));
    }
}
