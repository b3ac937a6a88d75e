//! DynamoDB's operations on several tables, and its statements: what they do stands in their members.
//!
//! A statement whose beginning is not that of one on one table leaves open what it does, or to which table.

use std::collections::HashSet;

use serde_json::Value;

use super::{AccessLevel, Malformed, Need, Operation, resource};
use crate::aws::model::catalog::level;

/// Tables of one batch or transaction, and statements: AWS takes no more.
const MAX: usize = 100;

pub(super) fn finish(operation: &mut Operation, account: &str) -> Result<(), Malformed> {
    match operation.name.as_str() {
        "BatchGetItem" | "BatchWriteItem" => {
            let tables = operation.parameters.get("RequestItems").and_then(Value::as_object);
            let tables: Vec<String> = tables.into_iter().flat_map(|t| t.keys().cloned()).collect();
            bounded(tables.len())?;
            let found = arns(operation, &tables, account);
            if !found.is_empty() {
                operation.needs.iter_mut().for_each(|n| n.resources.clone_from(&found));
            }
        }
        "TransactGetItems" | "TransactWriteItems" => transaction(operation, account)?,
        "ExecuteStatement" => {
            let statement = operation.parameters.get("Statement").cloned();
            statements(operation, &[statement], account);
        }
        "BatchExecuteStatement" | "ExecuteTransaction" => {
            let name = if operation.name == "ExecuteTransaction" { "TransactStatements" } else { "Statements" };
            let all = operation.parameters.get(name).and_then(Value::as_array);
            let all: Vec<Option<Value>> = all.into_iter().flatten().map(|s| s.get("Statement").cloned()).collect();
            bounded(all.len())?;
            statements(operation, &all, account);
        }
        _ => {}
    }
    Ok(())
}

fn bounded(found: usize) -> Result<(), Malformed> {
    if found <= MAX {
        return Ok(());
    }
    Err(Malformed::new(format!("the request names {found} tables or items, and DynamoDB takes {MAX}; send several")))
}

fn transaction(operation: &mut Operation, account: &str) -> Result<(), Malformed> {
    let items = operation.parameters.get("TransactItems").and_then(Value::as_array);
    bounded(items.map_or(0, Vec::len))?;
    let mut each = Vec::new();
    for (kind, body) in items.into_iter().flatten().filter_map(Value::as_object).flatten() {
        let action = match kind.as_str() {
            "Get" => "dynamodb:GetItem",
            "Put" => "dynamodb:PutItem",
            "Update" => "dynamodb:UpdateItem",
            "Delete" => "dynamodb:DeleteItem",
            "ConditionCheck" => "dynamodb:ConditionCheckItem",
            // Whatever it may be: all that the operation can need, anywhere.
            _ => return Ok(()),
        };
        let Some(table) = body.get("TableName").and_then(Value::as_str) else { return Ok(()) };
        each.push((action, Some(table.to_owned())));
    }
    set(operation, each, account);
    Ok(())
}

fn statements(operation: &mut Operation, statements: &[Option<Value>], account: &str) {
    let read = |s: &Option<Value>| statement(s.as_ref().and_then(Value::as_str).unwrap_or_default());
    // One that begins otherwise leaves all that statements can do.
    if let Some(each) = statements.iter().map(read).collect::<Option<Vec<_>>>() {
        set(operation, each, account);
    }
}

/// The action of a statement by its first word, and the table where its form leaves no doubt.
fn statement(text: &str) -> Option<(&'static str, Option<String>)> {
    let (word, rest) = word(text);
    Some(match word.to_ascii_uppercase().as_str() {
        "SELECT" => ("dynamodb:PartiQLSelect", selected(rest)),
        "INSERT" => ("dynamodb:PartiQLInsert", after(rest, "INTO").and_then(table)),
        "UPDATE" => ("dynamodb:PartiQLUpdate", table(rest)),
        "DELETE" => ("dynamodb:PartiQLDelete", after(rest, "FROM").and_then(table)),
        _ => return None,
    })
}

fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    text.split_at(text.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(text.len()))
}

fn after<'t>(text: &'t str, expected: &str) -> Option<&'t str> {
    let (found, rest) = word(text);
    found.eq_ignore_ascii_case(expected).then_some(rest)
}

/// The table of a SELECT: what follows its only FROM, outside of any quotes. Comments and inner queries leave it open.
fn selected(text: &str) -> Option<String> {
    if text.contains("--") || text.contains("/*") {
        return None;
    }
    let (mut found, mut quote, mut before) = (None, None, ' ');
    for (at, c) in text.char_indices() {
        match quote {
            Some(q) if c == q => quote = None,
            Some(_) => {}
            None if c == '"' || c == '\'' => quote = Some(c),
            None => {
                let here = text.get(at..at + 4).is_some_and(|w| w.eq_ignore_ascii_case("FROM"));
                let ends = text[at..].chars().nth(4).is_none_or(|c| !is_name(c));
                if here && ends && !is_name(before) && found.replace(&text[at + 4..]).is_some() {
                    return None;
                }
                if text.get(at..at + 6).is_some_and(|w| w.eq_ignore_ascii_case("SELECT")) {
                    return None;
                }
            }
        }
        before = c;
    }
    found.and_then(table)
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_-.".contains(c)
}

/// `t`, `"t"` or `"t"."index"` at the beginning of a text, as it stands in an ARN.
fn table(text: &str) -> Option<String> {
    let text = text.strip_prefix(|c: char| c.is_whitespace() || c == '"').map(|_| text.trim_start())?;
    let plain = |name: &str| !name.is_empty() && name.chars().all(is_name);
    let Some(quoted) = text.strip_prefix('"') else {
        let (name, rest) = text.split_at(text.find(|c| !is_name(c)).unwrap_or(text.len()));
        // A dot leads into an index, or into a document.
        return (plain(name) && !name.contains('.') && !rest.starts_with(['"', '/'])).then(|| name.to_owned());
    };
    let (name, rest) = quoted.split_once('"')?;
    if !plain(name) {
        return None;
    }
    match rest.strip_prefix('.') {
        Some(index) => {
            let (index, _) = index.strip_prefix('"')?.split_once('"')?;
            plain(index).then(|| format!("{name}/index/{index}"))
        }
        None => (!rest.starts_with('"')).then(|| name.to_owned()),
    }
}

/// Each action on its tables; anywhere, where one of them is not told.
fn set(operation: &mut Operation, each: Vec<(&'static str, Option<String>)>, account: &str) {
    let mut actions: Vec<&'static str> = Vec::new();
    for (action, _) in &each {
        if !actions.contains(action) {
            actions.push(action);
        }
    }
    if actions.is_empty() {
        return;
    }
    operation.access =
        actions.iter().map(|a| level(a).unwrap_or(AccessLevel::Unknown)).max().unwrap_or(operation.access);
    operation.needs = actions
        .into_iter()
        .map(|action| {
            let tables = each.iter().filter(|(a, _)| *a == action).map(|(_, table)| table.clone());
            match tables.collect::<Option<Vec<String>>>() {
                Some(tables) => Need::new(action, arns(operation, &tables, account)),
                None => Need::anywhere(action),
            }
        })
        .collect();
}

fn arns(operation: &Operation, tables: &[String], account: &str) -> Vec<String> {
    let (mut found, mut seen): (Vec<String>, HashSet<String>) = Default::default();
    for table in tables {
        let arn = if table.starts_with("arn:") {
            table.clone()
        } else {
            format!("arn:{}:dynamodb:{}:{account}:table/{table}", operation.partition, operation.region)
        };
        if seen.insert(arn.clone()) {
            found.push(arn);
        }
    }
    resource::fill_account(&mut found, account);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_s_table_is_told_or_left_open() {
        for (text, table) in [
            ("SELECT * FROM t WHERE a = 1", Some("t")),
            (r#"select a, "from" from "t""#, Some("t")),
            (r#"SELECT * FROM "t"."i" WHERE x = 'FROM u'"#, Some("t/index/i")),
            ("SELECT * FROM t WHERE EXISTS(SELECT * FROM u)", None),
            ("SELECT * FROM t -- \nFROM u", None),
            ("SELECT * FROM t.i", None),
            ("SELECT a FROM", None),
            (r#"INSERT INTO "t" VALUE {'a': 1}"#, Some("t")),
            ("INSERT t", None),
            (r#" update "t" set a=1"#, Some("t")),
            (r#"UPDATE"t"SET a=1"#, Some("t")),
            ("DELETE FROM t WHERE a = 1", Some("t")),
            ("DELETE /* x */ FROM t", None),
            (r#"DELETE FROM "a/b""#, None),
            (r#"DELETE FROM "a""b""#, None),
        ] {
            assert_eq!(statement(text).expect(text).1.as_deref(), table, "{text}");
        }
        assert_eq!(statement("EXISTS(SELECT * FROM t)"), None);
    }
}
