//! The time in a signature: `20260102T030405Z`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::format_description::well_known::Rfc2822;
use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time};

/// A moment, to the second, in the form that signatures carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    text: [u8; 16],
    unix: i64,
}

impl Stamp {
    /// `None` outside the years 1970 to 9999.
    pub fn at(moment: SystemTime) -> Option<Self> {
        let since = moment.duration_since(UNIX_EPOCH).ok()?.as_secs();
        let t = OffsetDateTime::from_unix_timestamp(i64::try_from(since).ok()?).ok()?;
        Self::from_utc(t)
    }

    /// Reads `20260102T030405Z` and nothing else.
    pub fn parse(text: &str) -> Option<Self> {
        let b: &[u8; 16] = text.as_bytes().try_into().ok()?;
        let number = |range: std::ops::Range<usize>| {
            b[range].iter().try_fold(0u16, |n, d| d.is_ascii_digit().then(|| n * 10 + u16::from(d - b'0')))
        };
        if b[8] != b'T' || b[15] != b'Z' {
            return None;
        }
        let small = |range| number(range).and_then(|n| u8::try_from(n).ok());
        let date =
            Date::from_calendar_date(i32::from(number(0..4)?), Month::try_from(small(4..6)?).ok()?, small(6..8)?)
                .ok()?;
        let time = Time::from_hms(small(9..11)?, small(11..13)?, small(13..15)?).ok()?;
        Some(Self { text: *b, unix: PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp() })
    }

    /// Reads a `Date` header, which old clients sign instead: HTTP's form, or the one above.
    pub fn parse_http_date(text: &str) -> Option<Self> {
        Self::parse(text)
            .or_else(|| Self::from_utc(OffsetDateTime::parse(text, &Rfc2822).ok()?.to_offset(time::UtcOffset::UTC)))
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text).unwrap_or_default()
    }

    /// The eight digits of the day.
    pub fn date(&self) -> &str {
        &self.as_str()[..8]
    }

    /// Seconds since 1970.
    pub fn unix(&self) -> i64 {
        self.unix
    }

    /// How far it is from another, and whether it lies `behind` or `ahead of` it.
    pub fn distance(&self, other: &Self) -> (Duration, &'static str) {
        let direction = if self.unix < other.unix { "behind" } else { "ahead of" };
        (Duration::from_secs(self.unix.abs_diff(other.unix)), direction)
    }

    fn from_utc(t: OffsetDateTime) -> Option<Self> {
        let year = u16::try_from(t.year()).ok().filter(|y| *y <= 9999)?;
        let mut text = *b"00000000T000000Z";
        let mut put = |at: usize, digits: usize, mut n: u16| {
            for i in (at..at + digits).rev() {
                // A digit is below ten.
                text[i] = b'0' + (n % 10) as u8;
                n /= 10;
            }
        };
        put(0, 4, year);
        for (at, n) in [(4, u8::from(t.month())), (6, t.day()), (9, t.hour()), (11, t.minute()), (13, t.second())] {
            put(at, 2, u16::from(n));
        }
        Some(Self { text, unix: t.unix_timestamp() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_and_reads_the_same() {
        for unix in [0, 951_782_400, 1_700_000_000, 4_102_444_799, 253_402_300_799] {
            let stamp = Stamp::at(UNIX_EPOCH + Duration::from_secs(unix)).expect("in range");
            assert_eq!(Stamp::parse(stamp.as_str()), Some(stamp), "{}", stamp.as_str());
        }
        assert_eq!(
            Stamp::at(UNIX_EPOCH + Duration::from_secs(951_782_400)).expect("in range").as_str(),
            "20000229T000000Z"
        );
        assert_eq!(Stamp::at(UNIX_EPOCH + Duration::from_secs(253_402_300_800)), None);
        assert_eq!(Stamp::at(UNIX_EPOCH - Duration::from_secs(1)), None);
    }

    #[test]
    fn refuses_what_is_not_a_moment() {
        for bad in [
            "",
            "20260102",
            "20260102T030405",
            "20260102t030405Z",
            "20260230T030405Z",
            "20261302T030405Z",
            "20260102T240000Z",
            "2026010éT30405Z",
            "+0260102T030405Z",
        ] {
            assert_eq!(Stamp::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn reads_http_dates() {
        let stamp = Stamp::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").expect("valid");
        assert_eq!((stamp.as_str(), stamp.date()), ("19941106T084937Z", "19941106"));
        assert_eq!(Stamp::parse_http_date("yesterday"), None);
    }

    #[test]
    fn distances_have_a_direction() {
        let (a, b) =
            (Stamp::parse("20260102T030405Z").expect("valid"), Stamp::parse("20260102T040405Z").expect("valid"));
        assert_eq!(a.distance(&b), (Duration::from_secs(3600), "behind"));
        assert_eq!(b.distance(&a), (Duration::from_secs(3600), "ahead of"));
    }
}
