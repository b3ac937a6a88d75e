//! Types of a policy's parameters, from AWS's model.
//!
//! Owns the look-up of every member that a policy reads in the inputs of the operations that its actions stand for. Only
//! what policies read is looked up, so that shapes may be large and may refer to themselves. A member that none of the
//! operations has is an error with the nearest right name; so is one that is used as what it is not. Pure.
//!
//! Several operations may need one action, and a policy may name many: it may read what any of them has. Where they
//! disagree about a type, the policy's own use decides, as long as one of them agrees with it; a request of another
//! makes its evaluation fail, and that denies.

use std::collections::BTreeMap;

use super::catalog::nearest_of;
use super::shape::Shape;
use crate::aws::model::{Detail, Input, Kind, Members};

/// What is wrong with a parameter.
#[derive(Debug)]
pub(super) struct Problem {
    pub path: Vec<String>,
    pub message: String,
    pub fix: String,
}

/// A type of the model.
#[derive(Clone, Copy)]
struct Type {
    detail: &'static Detail,
    kind: Kind<'static>,
}

/// Names that keys and values of key-value pairs have.
const PAIRS: [(&str, &str); 6] = [
    ("Key", "Value"),
    ("key", "value"),
    ("Name", "Value"),
    ("name", "value"),
    ("TagKey", "TagValue"),
    ("tagKey", "tagValue"),
];

/// What a policy reads, with the model's types. `whose` are its actions, for messages.
pub(super) fn typed(used: &Shape, inputs: &[Input], whose: &str) -> Result<Shape, Vec<Problem>> {
    let Shape::Record(members) = used else { return Ok(used.clone()) };
    let types: Vec<Type> = inputs.iter().map(|i| Type { detail: i.detail, kind: i.detail.kind(i.op.input) }).collect();
    let mut reader = Reader { whose, path: Vec::new(), problems: Vec::new() };
    let shape = reader.members(members, &types, false);
    if reader.problems.is_empty() { Ok(shape) } else { Err(reader.problems) }
}

struct Reader<'a> {
    whose: &'a str,
    path: Vec<String>,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    /// The members of what is one of `types`. `many`: they stand in the items of a list.
    fn members(&mut self, used: &BTreeMap<String, Shape>, types: &[Type], many: bool) -> Shape {
        let items: Vec<Type> = types.iter().filter_map(|t| t.item()).collect();
        let has_others = types.iter().any(|t| t.item().is_none() && t.has_members());
        if !items.is_empty() && !has_others {
            return Shape::Each(Box::new(self.members(used, &items, true)));
        }
        let mut found = BTreeMap::new();
        for (name, inner) in used {
            self.path.push(name.clone());
            found.insert(name.clone(), self.member(name, inner, types, many));
            self.path.pop();
        }
        Shape::Record(found)
    }

    fn member(&mut self, name: &str, used: &Shape, types: &[Type], many: bool) -> Shape {
        if types.iter().any(|t| matches!(t.kind, Kind::Document)) {
            // Any JSON may stand there: the policy's own use is all there is to go by.
            return used.clone();
        }
        let here: Vec<Type> = types.iter().filter_map(|t| t.member(name)).collect();
        if !here.is_empty() {
            return self.shape(used, &here, many);
        }
        if many && let Some((pair, of)) = types.iter().find_map(|t| t.pair()) {
            let shape = Box::new(self.shape(used, &[of], true));
            return Shape::Keyed { key: pair.0, value: pair.1, shape };
        }
        self.unknown(name, types);
        used.clone()
    }

    fn shape(&mut self, used: &Shape, types: &[Type], many: bool) -> Shape {
        if let Shape::Record(members) = used {
            if types.iter().any(|t| t.has_members() || t.item().is_some_and(|i| i.has_members())) {
                return self.members(members, types, many);
            }
            if types.iter().all(|t| !matches!(t.kind, Kind::Document)) {
                let what = types.first().and_then(|t| t.leaf()).unwrap_or(Shape::Any).describe();
                self.wrong(format!("is {what} and has no members"), "compare it itself".into());
            }
            return used.clone();
        }
        let mut leaves: Vec<Option<Shape>> = types.iter().map(Type::leaf).collect();
        if leaves.contains(&Some(Shape::Any)) {
            return used.clone();
        }
        leaves.dedup();
        // Presence is all that is asked for.
        if *used == Shape::Any {
            return match (leaves.as_slice(), many) {
                ([Some(one)], _) => one.clone(),
                _ => Shape::Any,
            };
        }
        let seen = |leaf: &Shape| match leaf {
            Shape::Set(_) => leaf.clone(),
            other if many => Shape::set(other.clone()),
            other => other.clone(),
        };
        let fitting = leaves.iter().flatten().find(|leaf| agrees(used, &seen(leaf)));
        if let Some(leaf) = fitting {
            return leaf.clone();
        }
        match leaves.iter().flatten().next() {
            Some(leaf) => {
                let is = seen(leaf);
                let fix = match (&is, used) {
                    (Shape::Set(of), used) if agrees(used, of) => "write `.contains(…)`".to_owned(),
                    (Shape::Time, _) => "compare it with datetime(\"2026-01-31T00:00:00Z\")".to_owned(),
                    (Shape::Decimal, _) => "write `.lessThan(decimal(\"1.5\"))` and the like".to_owned(),
                    _ => "compare it with a value of that type".to_owned(),
                };
                self.wrong(format!("is {}, and is used as {}", is.describe(), used.describe()), fix);
            }
            None => {
                let names: Vec<&str> = types.iter().flat_map(|t| t.names()).take(5).collect();
                let what =
                    if types.iter().any(|t| t.item().is_some()) { "a list of structures" } else { "a structure" };
                let fix = match names.as_slice() {
                    [] => "compare a member of it".to_owned(),
                    names => format!("compare a member of it (`{}`, …)", names.join("`, `")),
                };
                self.wrong(format!("is {what}, and is used as {}", used.describe()), fix);
            }
        }
        used.clone()
    }

    fn unknown(&mut self, name: &str, types: &[Type]) {
        let mut names: Vec<&str> = types.iter().flat_map(|t| t.names()).collect();
        names.sort_unstable();
        names.dedup();
        let lower = name.to_ascii_lowercase();
        let same = names.iter().copied().find(|n| n.to_ascii_lowercase() == lower);
        let meant = same.or_else(|| nearest_of(name, &names));
        let within = &self.path[..self.path.len() - 1];
        let whole = |last: &str| within.iter().map(String::as_str).chain([last]).collect::<Vec<_>>().join(".");
        let message = format!("`{}` is no parameter of {}", whole(name), self.whose);
        let fix = match meant {
            Some(meant) => format!("did you mean `{}`?", whole(meant)),
            None if names.is_empty() => "it has none there".to_owned(),
            None => "check the name as AWS's API reference spells it".to_owned(),
        };
        self.problems.push(Problem { path: self.path.clone(), message, fix });
    }

    fn wrong(&mut self, what: String, fix: String) {
        let message = format!("`context.parameters.{}` {what}", self.path.join("."));
        self.problems.push(Problem { path: self.path.clone(), message, fix });
    }
}

/// Whether a use goes with a type.
fn agrees(used: &Shape, is: &Shape) -> bool {
    match (used, is) {
        (Shape::Any, _) => true,
        (Shape::Set(used), Shape::Set(is)) => agrees(used, is),
        (used, is) => used == is,
    }
}

impl Type {
    fn of(&self, shape: crate::aws::model::ShapeId) -> Self {
        Self { detail: self.detail, kind: self.detail.kind(shape) }
    }

    fn item(&self) -> Option<Self> {
        match self.kind {
            Kind::List(item, _) => Some(self.of(item)),
            _ => None,
        }
    }

    fn has_members(&self) -> bool {
        matches!(self.kind, Kind::Structure(_) | Kind::Map { .. } | Kind::Document)
            || self.item().is_some_and(|i| i.has_members())
    }

    fn member(&self, name: &str) -> Option<Self> {
        match self.kind {
            Kind::Structure(members) => find(members, name).map(|m| self.of(m.shape)),
            // Any text is a key.
            Kind::Map { value, .. } => Some(self.of(value)),
            _ => None,
        }
    }

    /// Key and value, if it is a structure of those.
    fn pair(&self) -> Option<((&'static str, &'static str), Self)> {
        let Kind::Structure(members) = self.kind else { return None };
        let pair =
            PAIRS.into_iter().find(|(key, value)| find(members, key).is_some() && find(members, value).is_some())?;
        Some((pair, self.of(find(members, pair.1)?.shape)))
    }

    fn names(&self) -> Vec<&'static str> {
        match self.kind {
            Kind::Structure(members) => members.all.iter().map(|m| m.name).collect(),
            Kind::List(..) => self.item().map(|i| i.names()).unwrap_or_default(),
            _ => Vec::new(),
        }
    }

    /// What it is to Cedar, if it has no members. [`Shape::Any`]: it may be anything.
    fn leaf(&self) -> Option<Shape> {
        Some(match self.kind {
            // Bytes are compared in the form that they have in JSON: base64.
            Kind::Text | Kind::Blob => Shape::Text,
            Kind::Integer => Shape::Number,
            Kind::Float => Shape::Decimal,
            Kind::Boolean => Shape::Truth,
            Kind::Timestamp => Shape::Time,
            Kind::Document => Shape::Any,
            Kind::List(..) => match self.item()?.leaf()? {
                // Sets of sets say nothing that their union does not say better.
                Shape::Set(inner) => Shape::Set(inner),
                inner => Shape::set(inner),
            },
            Kind::Structure(_) | Kind::Map { .. } => return None,
        })
    }
}

fn find(members: &'static Members, name: &str) -> Option<&'static crate::aws::model::Member> {
    members.all.iter().find(|m| m.name == name)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::{ask, operation};
    use super::super::{Effect, PolicySet};
    use crate::aws::model::catalog;
    use crate::config::Mode;
    use crate::identity::Principal;

    fn load(scope: &str, condition: &str) -> Result<PolicySet, Vec<String>> {
        let text = format!("permit(principal, {scope}, resource)\nwhen {{ {condition} }};");
        PolicySet::from_sources(&[("t.cedar", &text)], Mode::Enforce, catalog())
            .map_err(|e| e.iter().map(ToString::to_string).collect())
    }

    fn action(id: &str) -> String {
        format!("action == AWS::Action::\"{id}\"")
    }

    /// Whether a condition holds for these parameters.
    fn holds(id: &str, condition: &str, parameters: Value) -> bool {
        let guarded = condition.to_owned();
        let set = load(&action(id), &guarded).unwrap_or_else(|e| panic!("{e:#?}"));
        let mut operation = operation(&[id], &["*"]);
        let Value::Object(parameters) = parameters else { panic!("not an object") };
        operation.parameters = parameters;
        ask(&set, &Principal::unidentified(), &operation).effect == Effect::Allow
    }

    #[test]
    fn a_misspelt_parameter_is_told_with_the_nearest_right_name() {
        let p = "context.parameters";
        for (scope, condition, expected) in [
            (
                action("ec2:RunInstances"),
                format!("{p} has InstanceTyp && {p}.InstanceTyp == \"t3.micro\""),
                "t.cedar:2:65: `InstanceTyp` is no parameter of ec2:RunInstances; did you mean `InstanceType`?",
            ),
            (
                action("ec2:RunInstances"),
                format!("{p} has instancetype"),
                "t.cedar:2:31: `instancetype` is no parameter of ec2:RunInstances; did you mean `InstanceType`?",
            ),
            (
                action("ec2:RunInstances"),
                format!("{p} has Placement && {p}.Placement has Tenency && {p}.Placement.Tenency == \"host\""),
                "`Placement.Tenency` is no parameter of ec2:RunInstances; did you mean `Placement.Tenancy`?",
            ),
            (
                action("ec2:RunInstances"),
                format!("{p} has BlockDeviceMappings.Ebs.VolumeSise"),
                "`BlockDeviceMappings.Ebs.VolumeSise` is no parameter of ec2:RunInstances; did you mean `BlockDeviceMappings.Ebs.VolumeSize`?",
            ),
            (
                "action in [AWS::Action::\"ec2:RunInstances\", AWS::Action::\"ec2:CreateVolume\"]".into(),
                format!("{p} has Sise"),
                "`Sise` is no parameter of ec2:RunInstances or ec2:CreateVolume; did you mean `Size`?",
            ),
            (
                "action in AWS::Action::\"secretsmanager:*\"".into(),
                format!("{p} has SecretsId"),
                "`SecretsId` is no parameter of secretsmanager:*; did you mean `SecretId`?",
            ),
            (
                action("ec2:RunInstances"),
                format!("{p} has InstanceType.Family && {p}.InstanceType.Family == \"t3\""),
                "`context.parameters.InstanceType` is text and has no members; compare it itself",
            ),
            (
                action("ec2:RunInstances"),
                format!("{p} has MaxCount && {p}.MaxCount == \"2\""),
                "`context.parameters.MaxCount` is a number, and is used as text; compare it with a value of that type",
            ),
            (
                action("ec2:RunInstances"),
                format!("{p} has InstanceType && {p}.InstanceType > 2"),
                "`context.parameters.InstanceType` is text, and is used as a number",
            ),
            (
                action("ec2:RunInstances"),
                format!("{p} has SecurityGroupIds && {p}.SecurityGroupIds == \"sg-1\""),
                "`context.parameters.SecurityGroupIds` is a set (text), and is used as text; write `.contains(…)`",
            ),
            (
                action("ec2:RunInstances"),
                format!("{p} has BlockDeviceMappings.Ebs.VolumeSize && {p}.BlockDeviceMappings.Ebs.VolumeSize > 100"),
                "`context.parameters.BlockDeviceMappings.Ebs.VolumeSize` is a set (a number), and is used as a number",
            ),
            (
                action("ec2:RunInstances"),
                format!("{p} has Placement && {p}.Placement == \"x\""),
                "`context.parameters.Placement` is a structure, and is used as text; compare a member of it (`AvailabilityZoneId`, ",
            ),
            (
                action("sts:GetCallerIdentity"),
                format!("{p} has Name"),
                "`Name` is no parameter of sts:GetCallerIdentity; it has none there",
            ),
        ] {
            let errors = load(&scope, &condition).err().unwrap_or_else(|| panic!("accepted: {condition}"));
            assert!(errors.len() == 1 && errors[0].contains(expected), "{condition}\n{errors:#?}");
        }
    }

    #[test]
    fn right_names_are_right_and_without_an_action_any_is() {
        let p = "context.parameters";
        for (scope, condition) in [
            (action("ec2:RunInstances"), format!("{p} has InstanceType && {p}.InstanceType like \"t3.*\"")),
            (action("s3:GetObjectVersion"), format!("{p} has VersionId && {p}.VersionId == \"1\"")),
            (action("s3:PutObjectAcl"), format!("{p} has ACL && {p}.ACL == \"public-read\"")),
            (action("s3-object-lambda:GetObject"), format!("{p} has Key")),
            (action("iam:PassRole"), format!("{p} has FunctionName")),
            ("action in AWS::Action::\"s3:Get*\"".into(), format!("{p} has Key")),
            ("action".into(), format!("{p} has Anything && {p}.Anything == 1")),
            ("action in AWS::Action::\"level:Write\"".into(), format!("{p} has Anything")),
            ("action in AWS::Action::\"*:Get*\"".into(), format!("{p} has Anything")),
            (action("unknown:unknown"), format!("{p} has Anything")),
        ] {
            load(&scope, &condition).unwrap_or_else(|e| panic!("{condition}\n{e:#?}"));
        }
    }

    #[test]
    fn values_are_compared_as_what_aws_says_they_are() {
        let p = "context.parameters";
        let item = json!({"Item": {"id": {"S": "7"}, "deep": {"L": [{"M": {"x": {"N": "1"}}}]}}});
        let tags = json!({"Tags": [{"Key": "team", "Value": "red"}, {"Key": "env", "Value": "dev"}]});
        let disks = json!({"BlockDeviceMappings": [
            {"DeviceName": "a", "Ebs": {"VolumeSize": 8, "Encrypted": true}}, {"Ebs": {"VolumeSize": 500}}
        ]});
        for (id, condition, parameters, expected) in [
            ("ec2:RunInstances", format!("{p} has MaxCount && {p}.MaxCount < 3"), json!({"MaxCount": 2}), true),
            ("ec2:RunInstances", format!("{p} has MaxCount && {p}.MaxCount < 3"), json!({"MaxCount": "2"}), true),
            ("ec2:RunInstances", format!("{p} has DryRun && {p}.DryRun"), json!({"DryRun": true}), true),
            (
                "ec2:RunInstances",
                format!(
                    "{p} has BlockDeviceMappings.Ebs.VolumeSize && {p}.BlockDeviceMappings.Ebs.VolumeSize.contains(500)"
                ),
                disks.clone(),
                true,
            ),
            (
                "ec2:RunInstances",
                format!(
                    "{p} has BlockDeviceMappings.Ebs.Encrypted && {p}.BlockDeviceMappings.Ebs.Encrypted.contains(false)"
                ),
                disks,
                false,
            ),
            (
                "secretsmanager:CreateSecret",
                format!("{p} has Tags.team && {p}.Tags.team == [\"red\"] && !({p}.Tags has owner)"),
                tags.clone(),
                true,
            ),
            ("secretsmanager:CreateSecret", format!("{p} has Tags.Key && {p}.Tags.Key.contains(\"env\")"), tags, true),
            // Maps have the keys that policies name; shapes that refer to themselves are followed as far as they do.
            ("dynamodb:PutItem", format!("{p} has Item.id.S && {p}.Item.id.S == \"7\""), item.clone(), true),
            (
                "dynamodb:PutItem",
                format!("{p} has Item.deep.L.M.x.N && {p}.Item.deep.L.M.x.N.contains(\"1\")"),
                item,
                true,
            ),
            (
                "cloudwatch:GetMetricStatistics",
                format!("{p} has StartTime && {p}.StartTime < datetime(\"2026-02-01\")"),
                json!({"StartTime": "2026-01-02T03:04:05Z"}),
                true,
            ),
            (
                "cloudwatch:PutMetricAlarm",
                format!("{p} has Threshold && {p}.Threshold.lessThan(decimal(\"80.0\"))"),
                json!({"Threshold": 79.5}),
                true,
            ),
            // Any JSON: the policy's own use decides.
            (
                "bedrock:InvokeModel",
                format!("{p} has additionalModelRequestFields.top_k && {p}.additionalModelRequestFields.top_k > 5"),
                json!({"additionalModelRequestFields": {"top_k": 7}}),
                true,
            ),
        ] {
            assert_eq!(holds(id, &condition, parameters.clone()), expected, "{condition} {parameters}");
        }
    }

    #[test]
    fn two_policies_may_read_one_parameter_as_two_things() {
        let text = r#"
            permit(principal, action, resource) when { context.parameters has MaxCount && context.parameters.MaxCount == "2" };
            @id("few") forbid(principal, action == AWS::Action::"ec2:RunInstances", resource)
            when { context.parameters has MaxCount && context.parameters.MaxCount > 5 };"#;
        let set = PolicySet::from_sources(&[("t.cedar", text)], Mode::Enforce, catalog()).expect("well-formed");
        for (count, expected) in [(json!(2), Effect::Allow), (json!("2"), Effect::Allow), (json!(9), Effect::Deny)] {
            let mut operation = operation(&["ec2:RunInstances"], &["*"]);
            operation.parameters.insert("MaxCount".into(), count.clone());
            assert_eq!(ask(&set, &Principal::unidentified(), &operation).effect, expected, "{count}");
        }
    }
}
