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

/// Text that an agent may have had a hand in, on one line: what would move the cursor, colour or reorder it is shown as
/// what it is.
pub(super) fn plain(text: &str) -> String {
    let strange = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if strange(c) { out.extend(c.escape_unicode()) } else { out.push(c) }
    }
    out
}

/// [`plain`], and at most `width` characters.
pub(super) fn short(text: &str, width: usize) -> String {
    let text = plain(text);
    if text.chars().count() <= width {
        return text;
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_deceive_a_reader_is_shown_as_what_it_is() {
        assert_eq!(plain("a\u{1b}[2K\rb"), "a\\u{1b}[2K\\u{d}b");
        assert_eq!(plain("\u{202e}txt"), "\\u{202e}txt");
        assert_eq!(short("żółć ok", 5), "żółć…");
    }
}
