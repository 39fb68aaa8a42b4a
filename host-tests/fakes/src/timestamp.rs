//! Conversion between Unix milliseconds and the times that the two servers write.

const DAY: i64 = 86_400_000;

/// RFC 3339 in UTC as Go writes it: fraction without trailing zeros, none when whole.
pub(crate) fn go(millis: i64) -> String {
    let fraction = format!("{:03}", millis.rem_euclid(1000));
    with_fraction(millis, fraction.trim_end_matches('0'))
}

/// RFC 3339 in UTC as .NET writes it: a server's clock ticks in 100 ns, so seven digits are the rule.
pub(crate) fn dotnet(millis: i64) -> String {
    match millis.rem_euclid(1000) {
        0 => with_fraction(millis, ""),
        fraction => with_fraction(millis, &format!("{fraction:03}6667")),
    }
}

/// The date of an HTTP header (RFC 9110 section 5.6.7): `Sun, 06 Nov 1994 08:49:37 GMT`.
pub(crate) fn http(millis: i64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let day = millis.div_euclid(DAY);
    let (year, month, date) = civil(day);
    let name = |names: &[&'static str], n: i64| usize::try_from(n).ok().and_then(|n| names.get(n).copied());
    let weekday = name(&DAYS, day.rem_euclid(7)).unwrap_or_default();
    let month = name(&MONTHS, month - 1).unwrap_or_default();
    let seconds = millis.rem_euclid(DAY) / 1000;
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{weekday}, {date:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

fn with_fraction(millis: i64, fraction: &str) -> String {
    let (year, month, day) = civil(millis.div_euclid(DAY));
    let seconds = millis.rem_euclid(DAY) / 1000;
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let dot = if fraction.is_empty() { "" } else { "." };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{dot}{fraction}Z")
}

/// A date (its first millisecond) or an RFC 3339 time with fraction and offset.
///
/// The flag says that there was only a date: Testkube lets an end date mean the end of that day.
pub(crate) fn parse(text: &str) -> Option<(i64, bool)> {
    let (date, time) = match text.split_once(['T', 't']) {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let mut parts = date.split('-');
    let year = number(parts.next()?, 4)?;
    let month = number(parts.next()?, 2)?;
    let day = number(parts.next()?, 2)?;
    if parts.next().is_some() || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let midnight = days(year, month, day) * DAY;
    match time {
        None => Some((midnight, true)),
        Some(time) => Some((midnight + time_of_day(time)?, false)),
    }
}

fn time_of_day(text: &str) -> Option<i64> {
    let zone = text.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = text.split_at(zone);
    let offset = match zone.as_bytes() {
        [b'Z' | b'z'] => 0,
        [sign, rest @ ..] => {
            let (hours, minutes) = std::str::from_utf8(rest).ok()?.split_once(':')?;
            let minutes = number(hours, 2)? * 60 + number(minutes, 2)?;
            if *sign == b'-' { -minutes } else { minutes }
        }
        [] => return None,
    };
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let mut parts = clock.split(':');
    let (hour, minute, second) =
        (number(parts.next()?, 2)?, number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    if fraction.is_empty() || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let millis: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    Some(((hour * 60 + minute - offset) * 60 + second) * 1000 + millis)
}

fn number(text: &str, digits: usize) -> Option<i64> {
    (text.len() == digits && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
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

/// Days since 1970-01-01 to year, month, day in the Gregorian calendar.
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

/// Year, month, day to days since 1970-01-01.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
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
    }

    #[test]
    fn a_written_time_reads_back() {
        for millis in [0, MOMENT, 951_782_400_000, -1] {
            assert_eq!(parse(&go(millis)), Some((millis, false)), "{}", go(millis));
        }
        assert_eq!(parse("2026-01-23T18:44:02.113456+02:00"), Some((MOMENT, false)));
        assert_eq!(parse("1970-01-02"), Some((DAY, true)));
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
