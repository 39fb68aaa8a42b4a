//! Texts from outside, made safe for texts of our own.

use std::str::FromStr;

/// At most 64 printable characters of `given`, with control characters as `·`, and an ellipsis if it was cut. For
/// problem texts: enough to recognise one's own mistake, too little to carry anything.
pub(crate) fn excerpt(given: &str) -> String {
    one_line(given, 64)
}

/// `given` on one line of at most `most` characters, with an ellipsis if it was cut, and without anything that an agent
/// or a log view could take for a command. Azure DevOps's commands begin with `##`, `##vso[…]` and `##[…]`, so no two
/// `#` stay together, wherever they are. Names come from anybody who may write a TestWorkflow.
pub(crate) fn one_line(given: &str, most: usize) -> String {
    let apart = given.chars().scan(false, |follows, c| {
        let was = std::mem::replace(follows, c == '#');
        Some((was && c == '#').then_some(' ').into_iter().chain([c]))
    });
    cut(apart.flatten(), most)
}

/// Reads a number of decimal digits and nothing else: [`str::parse`] also accepts a leading `+`.
pub(crate) fn number<T: FromStr>(text: &str) -> Option<T> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];

/// Reads `64MiB` or `2GiB` as bytes: a number of one to four digits that does not begin with 0, and its unit.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let unit = |name: &str| text.strip_suffix(name);
    let (count, bits) = unit("MiB").map(|count| (count, 20)).or_else(|| Some((unit("GiB")?, 30)))?;
    let is_good = (1..=4).contains(&count.len()) && !count.starts_with('0');
    number::<u64>(count).filter(|_| is_good).map(|count| count << bits)
}

/// A size in the largest unit that fits, rounded down.
pub(crate) fn size_in_words(bytes: u64) -> String {
    match UNITS.iter().find(|(_, bits)| bytes >> bits > 0) {
        Some((name, bits)) => format!("{}{name}", bytes >> bits),
        None => format!("{bytes} bytes"),
    }
}

/// The first items of a list, separated by `, `, and the number of the others.
pub(crate) fn listed<I: IntoIterator<Item = String>>(items: I, most: usize) -> String {
    let items: Vec<String> = items.into_iter().collect();
    let shown = items.iter().take(most).cloned().collect::<Vec<_>>().join(", ");
    match items.len().saturating_sub(most) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// `text` cut to at most `most` bytes, between characters.
pub(crate) fn clip(mut text: String, most: usize) -> String {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most.saturating_sub('…'.len_utf8())));
        text.push('…');
    }
    text
}

/// A message without terminal colours (`ESC [ … letter`).
pub(crate) fn plain(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    let mut rest = message;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        out.push_str(before);
        rest = after.trim_start_matches(|c: char| !c.is_ascii_alphabetic());
        rest = rest.get(1..).unwrap_or_default();
    }
    out.push_str(rest);
    out.replace('\n', " ")
}

fn cut(mut given: impl Iterator<Item = char>, most: usize) -> String {
    let mut out: String = given.by_ref().take(most).map(|c| if is_plain(c) { c } else { '·' }).collect();
    if given.next().is_some() {
        out.push('…');
    }
    out
}

/// Whether a character is neither a control character nor a mark that changes the direction or hides text.
pub(crate) fn is_plain(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_short_and_printable() {
        assert_eq!(excerpt("shop-4711"), "shop-4711");
        assert_eq!(excerpt("a\r\nb\u{1b}[1m\u{202e}"), "a··b·[1m·");
        assert_eq!(excerpt(&"x".repeat(200)).chars().count(), 65);
    }

    #[test]
    fn a_name_cannot_forge_a_log_command() {
        assert_eq!(
            one_line("##vso[task.setvariable]x\n##[error]no", 80),
            "# #vso[task.setvariable]x·# #[error]no"
        );
        for hashes in 2..9 {
            for command in
                ["vso[task.complete result=Succeeded;]", "[error]", "[group]", "[debug]", "[command]"]
            {
                let given = format!("before{}{command}after", "#".repeat(hashes));
                let line = one_line(&given, 200);
                assert!(!line.contains("##"), "{line}");
                assert_eq!(line.replace(' ', ""), given.replace(' ', ""));
            }
        }
    }

    #[test]
    fn separated_hashes_count_towards_the_length_of_a_line() {
        assert_eq!(one_line(&"#".repeat(1_000), 5), "# # #…");
        assert_eq!(one_line("###", 5), "# # #");
        assert_eq!(one_line("####", 5), "# # #…");
    }

    #[test]
    fn sizes_are_read_and_said_with_their_unit() {
        for (text, bytes) in [("64MiB", 64 << 20), ("1MiB", 1 << 20), ("9999GiB", 9_999 << 30)] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in [
            "", "MiB", "64", "64MB", "+64MiB", "1.5GiB", "64 MiB", "064MiB", "0MiB", "10000MiB", "1KiB",
            "1TiB",
        ] {
            assert_eq!(parse_size(text), None, "{text}");
        }
        for (bytes, words) in [(64 << 20, "64MiB"), (1 << 10, "1KiB"), (2 << 30, "2GiB"), (1 << 40, "1TiB")] {
            assert_eq!(size_in_words(bytes), words);
        }
        assert_eq!((size_in_words(0).as_str(), size_in_words((64 << 20) + 1).as_str()), ("0 bytes", "64MiB"));
    }

    #[test]
    fn long_lists_say_how_much_they_leave_out() {
        let names = |n: u32| (0..n).map(|i| i.to_string());
        assert_eq!(listed(names(3), 3), "0, 1, 2");
        assert_eq!(listed(names(5), 3), "0, 1, 2 and 2 more");
    }

    #[test]
    fn terminal_colours_are_taken_out_of_messages() {
        assert_eq!(plain("\u{1b}[1mCannot fetch\u{1b}[0m\nnot found"), "Cannot fetch not found");
        assert_eq!(plain("cut \u{1b}["), "cut ");
    }

    #[test]
    fn clipping_keeps_characters_whole() {
        assert_eq!(clip("ééé".into(), 100), "ééé");
        assert_eq!(clip("éééé".into(), 7), "éé…");
    }
}
