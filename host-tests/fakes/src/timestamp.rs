//! Conversion between Unix milliseconds and the times that the two servers write.

use jiff::fmt::rfc2822::DateTimePrinter;
use jiff::{SignedDuration, Timestamp};

/// RFC 3339 in UTC as Go writes it: fraction without trailing zeros, none when whole.
pub(crate) fn go(millis: i64) -> String {
    moment(millis).to_string()
}

/// RFC 3339 in UTC as .NET writes it: a server's clock ticks in 100 ns, so seven digits are the rule.
pub(crate) fn dotnet(millis: i64) -> String {
    match millis.rem_euclid(1000) {
        0 => go(millis),
        _ => format!("{:.7}", moment(millis) + SignedDuration::from_nanos(666_700)),
    }
}

/// The date of an HTTP header (RFC 9110 section 5.6.7): `Sun, 06 Nov 1994 08:49:37 GMT`.
pub(crate) fn http(millis: i64) -> String {
    DateTimePrinter::new().timestamp_to_rfc9110_string(&moment(millis)).unwrap_or_default()
}

/// A time that no calendar of four digits has is 1970.
fn moment(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap_or_default()
}

/// A date (its first millisecond) or an RFC 3339 time with fraction and offset.
///
/// The flag says that there was only a date: Testkube lets an end date mean the end of that day.
pub(crate) fn parse(text: &str) -> Option<(i64, bool)> {
    let is_date = text.len() == "2026-01-23".len();
    let moment = if is_date { format!("{text}T00:00:00Z").parse() } else { text.parse::<Timestamp>() };
    Some((moment.ok()?.as_millisecond(), is_date))
}

/// A span as Go's `time.Duration` prints it: `1h2m3.5s`, `68ms`, `0s`.
pub(crate) fn go_duration(millis: i64) -> String {
    if millis == 0 {
        return "0s".into();
    }
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let (hours, minutes, rest) = (millis / 3_600_000, millis / 60_000 % 60, millis % 60_000);
    let fraction = format!("{:03}", rest % 1000);
    let fraction = fraction.trim_end_matches('0');
    let dot = if fraction.is_empty() { "" } else { "." };
    let seconds = format!("{}{dot}{fraction}s", rest / 1000);
    match (hours, minutes) {
        (0, 0) => seconds,
        (0, _) => format!("{minutes}m{seconds}"),
        _ => format!("{hours}h{minutes}m{seconds}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: i64 = 1_769_186_642_113;

    #[test]
    fn times_are_written_as_each_server_writes_them() {
        assert_eq!(go(MOMENT), "2026-01-23T16:44:02.113Z");
        assert_eq!(go(MOMENT - 13), "2026-01-23T16:44:02.1Z");
        assert_eq!(go(0), "1970-01-01T00:00:00Z");
        assert_eq!(dotnet(MOMENT), "2026-01-23T16:44:02.1136667Z");
        assert_eq!(dotnet(MOMENT - 113), "2026-01-23T16:44:02Z");
        assert_eq!(http(MOMENT), "Fri, 23 Jan 2026 16:44:02 GMT");
    }

    #[test]
    fn a_written_time_reads_back() {
        for millis in [0, MOMENT, 951_782_400_000, -1] {
            assert_eq!(parse(&go(millis)), Some((millis, false)), "{}", go(millis));
        }
        assert_eq!(parse("2026-01-23T18:44:02.113456+02:00"), Some((MOMENT, false)));
        assert_eq!(parse("1970-01-02"), Some((86_400_000, true)));
    }

    #[test]
    fn what_is_no_time_is_not_read() {
        for text in ["", "yesterday", "2026-1-1", "2026-01-23T16:44", "2026-01-23T16:44:02", "2026-13-01"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn durations_look_like_go() {
        let written: Vec<_> = [0, 68, 41_987, 68_462, 3_723_500].map(go_duration).into();
        assert_eq!(written, ["0s", "68ms", "41.987s", "1m8.462s", "1h2m3.5s"]);
    }
}
