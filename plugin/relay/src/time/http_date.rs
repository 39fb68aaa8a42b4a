//! Dates in HTTP headers.

use super::{Wall, days_from_civil, digits};

/// Length of the only form that senders may still write.
const LENGTH: usize = "Sun, 06 Nov 1994 08:49:37 GMT".len();
const MONTHS: [&[u8]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

impl Wall {
    /// Reads an IMF-fixdate, `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 section 5.6.7). `None` for anything else,
    /// including the two obsolete forms, which no server of this century writes. The name of the day is not compared
    /// with the date.
    pub fn parse_http(text: &str) -> Option<Wall> {
        let b = text.as_bytes();
        let separators: [(usize, &[u8]); 6] =
            [(3, b", "), (7, b" "), (11, b" "), (16, b" "), (19, b":"), (22, b":")];
        let is_there = |(at, want): &(usize, &[u8])| b.get(*at..).is_some_and(|rest| rest.starts_with(want));
        if b.len() != LENGTH || !separators.iter().all(is_there) || !b.ends_with(b" GMT") {
            return None;
        }
        let name = b.get(8..11)?;
        let month = i64::try_from(MONTHS.iter().position(|month| *month == name)?).ok()? + 1;
        let (day, year) = (digits(b, 5, 2)?, digits(b, 12, 4)?);
        let (hour, minute, second) = (digits(b, 17, 2)?, digits(b, 20, 2)?, digits(b, 23, 2)?);
        if !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        let seconds = days_from_civil(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
        Some(Wall(seconds * 1_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_of_the_rfc_is_read() {
        let date = Wall::parse_http("Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(date, Wall::parse("1994-11-06T08:49:37Z"));
        assert!(date.is_some());
    }

    #[test]
    fn every_month_is_known() {
        for (month, name) in (1..).zip(MONTHS) {
            let name = std::str::from_utf8(name).unwrap();
            let date = Wall::parse_http(&format!("Xxx, 28 {name} 2026 23:59:60 GMT"));
            assert_eq!(date, Wall::parse(&format!("2026-{month:02}-28T23:59:60Z")), "{name}");
        }
    }

    #[test]
    fn nothing_else_is_a_date() {
        for text in [
            "",
            "60",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 1994 08:49:37 GMT ",
            "Sun, 06 nov 1994 08:49:37 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Sun, 06 Nov 1994 08-49-37 GMT",
            "Sun, +6 Nov 1994 08:49:37 GMT",
            "Sün, 06 Nov 1994 08:49:7 GMT",
        ] {
            assert_eq!(Wall::parse_http(text), None, "{text}");
        }
    }
}
