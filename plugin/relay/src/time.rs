//! The two clocks, and the text forms of times.

mod http_date;

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// Milliseconds on the monotonic clock, which all VMs of an Envoy process share. Leases, claims, back-off and a check's
/// own deadlines use it, because nobody can set it back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mono(pub u64);

/// Milliseconds since 1970-01-01T00:00:00Z on the wall clock. Only for times from outside (a token's expiry, Testkube's
/// dates) and for texts for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Wall(pub i64);

/// Both clocks, read together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Now {
    /// The monotonic reading.
    pub mono: Mono,
    /// The wall reading.
    pub wall: Wall,
}

impl Mono {
    /// The time `d` after this one.
    pub fn plus(self, d: Duration) -> Mono {
        Mono(self.0.saturating_add(millis(d)))
    }

    /// Time since `earlier`; zero if that is not in the past.
    pub fn since(self, earlier: Mono) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Wall {
    /// The time `d` after this one.
    pub fn plus(self, d: Duration) -> Wall {
        Wall(self.0.saturating_add(i64::try_from(millis(d)).unwrap_or(i64::MAX)))
    }

    /// The time `d` before this one.
    pub fn minus(self, d: Duration) -> Wall {
        Wall(self.0.saturating_sub(i64::try_from(millis(d)).unwrap_or(i64::MAX)))
    }

    /// Reads RFC 3339 with any number of fraction digits and `Z` or an offset, as Testkube and Azure DevOps write it.
    /// `None` for anything else.
    pub fn parse(text: &str) -> Option<Wall> {
        let b = text.as_bytes();
        let (year, month, day) = (digits(b, 0, 4)?, digits(b, 5, 2)?, digits(b, 8, 2)?);
        let (hour, minute, second) = (digits(b, 11, 2)?, digits(b, 14, 2)?, digits(b, 17, 2)?);
        let separators = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
        if separators.iter().any(|(at, want)| b.get(*at) != Some(want))
            || !matches!(b.get(10), Some(b'T' | b't' | b' '))
            || !(1..=12).contains(&month)
            || !(1..=31).contains(&day)
            || hour > 23
            || minute > 59
            || second > 60
        {
            return None;
        }
        let (fraction, rest) = split_fraction(b.get(19..)?);
        let offset_minutes = match rest {
            [b'Z' | b'z'] => 0,
            [sign @ (b'+' | b'-'), zone @ ..] if zone.len() == 5 && zone.get(2) == Some(&b':') => {
                let minutes = digits(zone, 0, 2)? * 60 + digits(zone, 3, 2)?;
                if *sign == b'+' { minutes } else { -minutes }
            }
            _ => return None,
        };
        let seconds = days_from_civil(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
        Some(Wall((seconds - offset_minutes * 60) * 1_000 + fraction))
    }

    /// `14:02 UTC`, for a text that is read on the same day; with the date in front if `now` is on another day.
    pub fn clock(self, now: Wall) -> String {
        let stamp = self.stamp("");
        let (date, time) = stamp.split_once('T').unwrap_or_default();
        let time = time.get(..5).unwrap_or_default();
        match self.0.div_euclid(DAY) == now.0.div_euclid(DAY) {
            true => [time, " UTC"].concat(),
            false => [date, " ", time, " UTC"].concat(),
        }
    }

    /// RFC 3339 in UTC with seven fraction digits, the form that Azure DevOps's log view can hide (ServerTaskHelper's
    /// `TaskLogger` writes .NET's round-trip format "O").
    pub fn log_stamp(self) -> String {
        self.stamp("0000Z")
    }

    /// `2026-01-23T16:44:01.500` and this end. Written digit by digit, because there are many times in a list.
    fn stamp(self, end: &str) -> String {
        let c = self.civil();
        let mut text = String::with_capacity(32);
        if c.year < 0 {
            text.push('-');
        }
        let parts = [
            (c.year.abs(), 4, '-'),
            (c.month, 2, '-'),
            (c.day, 2, 'T'),
            (c.hour, 2, ':'),
            (c.minute, 2, ':'),
            (c.second, 2, '.'),
        ];
        for (number, digits, after) in parts {
            push_digits(&mut text, number, digits);
            text.push(after);
        }
        push_digits(&mut text, c.milli, 3);
        text.push_str(end);
        text
    }

    fn civil(self) -> Civil {
        let (days, ms) = (self.0.div_euclid(DAY), self.0.rem_euclid(DAY));
        let (year, month, day) = civil_from_days(days);
        let (second, milli) = (ms / 1_000, ms % 1_000);
        Civil { year, month, day, hour: second / 3_600, minute: second / 60 % 60, second: second % 60, milli }
    }
}

impl fmt::Display for Wall {
    /// RFC 3339 in UTC with milliseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.stamp("Z"))
    }
}

/// Adds at least this many digits of a number that is not negative.
fn push_digits(text: &mut String, number: i64, digits: u32) {
    let mut unit = 10_i64.pow(digits.saturating_sub(1));
    while number / 10 >= unit {
        unit *= 10;
    }
    while unit > 0 {
        text.push(char::from(b'0' + u8::try_from(number / unit % 10).unwrap_or_default()));
        unit /= 10;
    }
}

/// Reads a duration as written in a configuration: `"5s"`, `"10m"`, `"12h"`, `"500ms"`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.checked_mul(unit_ms)?))
}

/// A duration for a text: the two largest units that are not zero (`7d`, `1h 30m`, `12h`, `15s`); days from two on.
pub fn in_words(d: Duration) -> String {
    let s = d.as_secs();
    const DAY: u64 = 86_400;
    let (days, hours) = if s < 2 * DAY { (0, s / 3_600) } else { (s / DAY, s / 3_600 % 24) };
    let parts = [(days, "d"), (hours, "h"), (s / 60 % 60, "m"), (s % 60, "s")];
    let words: Vec<String> =
        parts.iter().filter(|(n, _)| *n > 0).take(2).map(|(n, unit)| format!("{n}{unit}")).collect();
    match words.is_empty() {
        true => format!("{}ms", d.as_millis()),
        false => words.join(" "),
    }
}

/// Whole milliseconds of `d`.
pub fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

const DAY: i64 = 86_400_000;

struct Civil {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    milli: i64,
}

fn digits(b: &[u8], at: usize, n: usize) -> Option<i64> {
    let mut value = 0;
    for c in b.get(at..at.checked_add(n)?)? {
        value = value * 10 + i64::from(char::from(*c).to_digit(10)?);
    }
    Some(value)
}

/// Milliseconds of a leading `.123…`, and the rest of the text. Digits after the third are dropped.
fn split_fraction(b: &[u8]) -> (i64, &[u8]) {
    let [b'.', rest @ ..] = b else { return (0, b) };
    let n = rest.iter().take_while(|c| c.is_ascii_digit()).count();
    let mut ms = 0;
    for i in 0..3 {
        let digit = rest.get(i).filter(|_| i < n).map_or(0, |c| i64::from(c - b'0'));
        ms = ms * 10 + digit;
    }
    (ms, rest.get(n..).unwrap_or_default())
}

/// Days since 1970-01-01 of a proleptic Gregorian date (Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms", `days_from_civil`).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let year_of_era = y.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The inverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let m = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * m + 2) / 5 + 1;
    let month = if m < 10 { m + 3 } else { m - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_with_fractions_of_any_length_and_offsets() {
        let want = Wall(1_769_186_642_113);
        for text in [
            "2026-01-23T16:44:02.113Z",
            "2026-01-23T16:44:02.113456789Z",
            "2026-01-23T17:44:02.113+01:00",
            "2026-01-23T11:14:02.113-05:30",
        ] {
            assert_eq!(Wall::parse(text), Some(want), "{text}");
        }
        assert_eq!(Wall::parse("1970-01-01T00:00:00Z"), Some(Wall(0)));
        assert_eq!(
            Wall::parse("2024-02-29T23:59:59.5Z").map(|w| w.to_string()).as_deref(),
            Some("2024-02-29T23:59:59.500Z")
        );
    }

    #[test]
    fn the_year_0001_that_stands_for_unset_is_a_time_long_before_any_other() {
        let unset = Wall::parse("0001-01-01T00:00:00Z").unwrap();
        assert!(unset.0 < -62_000_000_000_000);
        assert_eq!(unset.to_string(), "0001-01-01T00:00:00.000Z");
    }

    #[test]
    fn what_is_not_a_date_is_refused() {
        for text in
            ["", "2026-01-23", "2026-01-23T16:44:02", "2026-13-23T16:44:02Z", "2026-01-23T16:44:02+1", "now"]
        {
            assert_eq!(Wall::parse(text), None, "{text}");
        }
    }

    #[test]
    fn every_day_of_a_thousand_years_comes_back() {
        for day in (-200_000..200_000).step_by(7) {
            let (y, m, d) = civil_from_days(day);
            assert_eq!(days_from_civil(y, m, d), day);
        }
    }

    #[test]
    fn durations_have_a_number_and_a_unit() {
        assert_eq!(parse_duration("5s"), Some(Duration::from_secs(5)));
        assert_eq!(parse_duration("10m"), Some(Duration::from_secs(600)));
        assert_eq!(parse_duration("12h"), Some(Duration::from_secs(43_200)));
        assert_eq!(parse_duration("0s"), Some(Duration::ZERO));
        for text in ["", "5", "s", "-5s", "1.5h", "5 s", "99999999999999999999h", "18446744073709551615h"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn lengths_of_time_read_well() {
        assert_eq!(in_words(Duration::from_secs(43_200)), "12h");
        assert_eq!(in_words(Duration::from_secs(5_400)), "1h 30m");
        assert_eq!(in_words(Duration::from_secs(15)), "15s");
        assert_eq!(in_words(Duration::from_millis(20)), "20ms");
    }

    #[test]
    fn a_clock_time_of_another_day_says_which() {
        let now = Wall::parse("2026-01-23T16:00:00Z").unwrap();
        assert_eq!(Wall::parse("2026-01-23T14:02:59Z").unwrap().clock(now), "14:02 UTC");
        assert_eq!(Wall::parse("2026-01-22T14:02:59Z").unwrap().clock(now), "2026-01-22 14:02 UTC");
    }
}
