//! Times, sizes and tables for people.

use time::OffsetDateTime;
use time::macros::format_description;

/// `2026-01-31 14:05:09`, UTC, from microseconds since 1970.
pub(super) fn time(micros: i64) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1000)
        .ok()
        .and_then(|t| t.format(format_description!("[year]-[month]-[day] [hour]:[minute]:[second]")).ok())
        .unwrap_or_else(|| micros.to_string())
}

/// Seconds from `start`, as `+0.123`.
pub(super) fn since(start: i64, at: i64) -> String {
    let seconds = std::time::Duration::from_micros(u64::try_from(at - start).unwrap_or(0)).as_secs_f64();
    format!("+{seconds:.3}")
}

/// `1.5 MiB`.
pub(super) fn bytes(n: i64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = u32::try_from(n).map_or(f64::from(u32::MAX), f64::from);
    if n < 1024 {
        return format!("{n} B");
    }
    let mut unit = 0;
    value /= 1024.0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// At most `width` characters.
pub(super) fn short(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    cut.push('…');
    cut
}
