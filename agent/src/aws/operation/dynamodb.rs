//! DynamoDB's operations on several tables, and its statements: what they do stands in their members.

use std::collections::HashSet;

use serde_json::Value;

use super::{AccessLevel, Malformed, Operation, resource};
use crate::aws::model::catalog::level;

/// Tables of one batch or transaction, and statements: AWS takes no more.
const MAX: usize = 100;

pub(super) fn finish(operation: &mut Operation, account: &str) -> Result<(), Malformed> {
    match operation.name.as_str() {
        "BatchGetItem" | "BatchWriteItem" => {
            let tables = operation.parameters.get("RequestItems").and_then(Value::as_object);
            let tables: Vec<String> = tables.into_iter().flat_map(|t| t.keys().cloned()).collect();
            bounded(tables.len())?;
            set_tables(operation, &tables, account);
        }
        "TransactGetItems" | "TransactWriteItems" => transaction(operation, account)?,
        "ExecuteStatement" => {
            let statement = operation.parameters.get("Statement").cloned();
            statements(operation, &[statement]);
        }
        "BatchExecuteStatement" | "ExecuteTransaction" => {
            let name = if operation.name == "ExecuteTransaction" { "TransactStatements" } else { "Statements" };
            let all = operation.parameters.get(name).and_then(Value::as_array);
            let all: Vec<Option<Value>> = all.into_iter().flatten().map(|s| s.get("Statement").cloned()).collect();
            bounded(all.len())?;
            statements(operation, &all);
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
    let (mut tables, mut actions, mut clear) = (Vec::new(), Vec::new(), true);
    for (kind, body) in items.into_iter().flatten().filter_map(Value::as_object).flatten() {
        let action = match kind.as_str() {
            "Get" => "dynamodb:GetItem",
            "Put" => "dynamodb:PutItem",
            "Update" => "dynamodb:UpdateItem",
            "Delete" => "dynamodb:DeleteItem",
            "ConditionCheck" => "dynamodb:ConditionCheckItem",
            _ => {
                clear = false;
                continue;
            }
        };
        if !actions.contains(&action) {
            actions.push(action);
        }
        match body.get("TableName").and_then(Value::as_str) {
            Some(table) => tables.push(table.to_owned()),
            None => clear = false,
        }
    }
    if clear && !actions.is_empty() {
        set_actions(operation, &actions);
        set_tables(operation, &tables, account);
    }
    Ok(())
}

/// By each statement's first word. One that begins otherwise leaves all that statements can do.
fn statements(operation: &mut Operation, statements: &[Option<Value>]) {
    let mut actions = Vec::new();
    for statement in statements {
        let text = statement.as_ref().and_then(Value::as_str).unwrap_or_default().trim_start();
        let word: String = text.chars().take_while(char::is_ascii_alphabetic).collect();
        let action = match word.to_ascii_uppercase().as_str() {
            "SELECT" => "dynamodb:PartiQLSelect",
            "INSERT" => "dynamodb:PartiQLInsert",
            "UPDATE" => "dynamodb:PartiQLUpdate",
            "DELETE" => "dynamodb:PartiQLDelete",
            _ => return,
        };
        if !actions.contains(&action) {
            actions.push(action);
        }
    }
    if !actions.is_empty() {
        set_actions(operation, &actions);
    }
}

fn set_actions(operation: &mut Operation, actions: &[&str]) {
    operation.access =
        actions.iter().map(|a| level(a).unwrap_or(AccessLevel::Unknown)).max().unwrap_or(operation.access);
    operation.actions = actions.iter().map(|a| (*a).to_owned()).collect();
}

fn set_tables(operation: &mut Operation, tables: &[String], account: &str) {
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
    if !found.is_empty() {
        operation.resources = found;
    }
    resource::fill_account(&mut operation.resources, account);
}
