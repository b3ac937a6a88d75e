//! Cedar expressions taken apart, and written.
//!
//! Owns how an expression is shown and walked; of Cedar's core crate, for the reason that `engine.rs` gives. Pure.

use cedar_policy_core::ast::{Expr, ExprKind, Literal};

/// The operands of a chain of `&&`, in order.
pub(super) fn operands(expr: &Expr) -> Vec<&Expr> {
    match expr.expr_kind() {
        ExprKind::And { left, right } => [operands(left), operands(right)].concat(),
        _ => vec![expr],
    }
}

/// The expressions that one is made of.
pub(super) fn children(expr: &Expr) -> Vec<&Expr> {
    match expr.expr_kind() {
        ExprKind::If { test_expr, then_expr, else_expr } => vec![test_expr, then_expr, else_expr],
        ExprKind::And { left, right } | ExprKind::Or { left, right } => vec![left, right],
        ExprKind::UnaryApp { arg, .. } => vec![arg],
        ExprKind::BinaryApp { arg1, arg2, .. } => vec![arg1, arg2],
        ExprKind::GetAttr { expr, .. }
        | ExprKind::HasAttr { expr, .. }
        | ExprKind::ExtHasAttr { expr, .. }
        | ExprKind::Like { expr, .. }
        | ExprKind::Is { expr, .. } => vec![expr],
        ExprKind::ExtensionFunctionApp { args: all, .. } | ExprKind::Set(all) => all.iter().collect(),
        ExprKind::Record(members) => members.values().collect(),
        ExprKind::Lit(_) | ExprKind::Var(_) | ExprKind::Slot(_) | ExprKind::Unknown(_) => Vec::new(),
    }
}

/// An expression as its author wrote it, on one line.
pub(super) fn text(expr: &Expr) -> String {
    let written = expr.source_loc().and_then(|loc| loc.snippet()).map(str::to_owned);
    let text = written.unwrap_or_else(|| expr.to_string());
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A text as Cedar writes it.
pub(super) fn quoted(text: &str) -> String {
    Literal::from(text).to_string()
}
