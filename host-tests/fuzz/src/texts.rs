//! What holds for every text that people see: no secret, nothing that hides or forges text, little of what was sent.

use serde_json::Value;

/// The most characters in a row that a problem text may repeat of what was sent.
const MAX_REPEATED: usize = 64;

/// How much of what stands around a repeated text may happen to have been sent, too: quotation marks, a separator, an
/// ellipsis.
const SURROUNDINGS: usize = 8;

/// The most bytes of a field's name.
const MAX_NAME: usize = 32;

/// The most bytes of an answer or a log line, whatever was sent.
const MAX_TEXT: usize = 16 << 10;

/// Panics if a text shows one of the secrets.
pub(crate) fn assert_no_secret(what: &str, text: &str, secrets: &[&str]) {
    for secret in secrets {
        assert!(!text.contains(secret), "{what} shows a secret: {text}");
    }
}

/// Panics if a text holds a control character, or a mark that hides text or turns its direction.
pub(crate) fn assert_one_line(what: &str, text: &str) {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    assert!(!text.contains(hidden), "{what} holds characters that are not to be printed: {text:?}");
}

/// Panics if a text is long enough to be a burden.
pub(crate) fn assert_short(what: &str, text: &str) {
    assert!(text.len() <= MAX_TEXT, "{what} has {} bytes", text.len());
}

/// Panics if more than [`MAX_REPEATED`] characters in a row of `sent` stand in `text`, [`SURROUNDINGS`] aside.
pub(crate) fn assert_repeats_little(what: &str, text: &str, sent: &str) {
    let repeated = longest_repeated(text, sent);
    assert!(
        repeated <= MAX_REPEATED + SURROUNDINGS,
        "{what} repeats {repeated} characters of what was sent: {text}"
    );
}

/// Adds the names and texts of a JSON value to `texts`.
pub(crate) fn add_texts(value: &Value, texts: &mut Vec<String>) {
    match value {
        Value::String(text) => texts.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| add_texts(item, texts)),
        Value::Object(members) => members.iter().for_each(|(name, value)| {
            texts.push(name.clone());
            add_texts(value, texts);
        }),
        _ => {}
    }
}

/// How many characters the longest run has that stands in both texts; 0 where it is not longer than
/// [`MAX_REPEATED`] bytes.
fn longest_repeated(text: &str, sent: &str) -> usize {
    // A run of more than 64 bytes holds one of these chunks whole, wherever it begins.
    const CHUNK: usize = MAX_REPEATED.div_ceil(2);
    let (text, sent) = (text.as_bytes(), sent.as_bytes());
    let mut longest = 0;
    for (at, chunk) in sent.chunks_exact(CHUNK).enumerate().map(|(i, chunk)| (i * CHUNK, chunk)) {
        for found in (0..text.len().saturating_sub(CHUNK - 1)).filter(|i| text[*i..].starts_with(chunk)) {
            let before = common(text[..found].iter().rev(), sent[..at].iter().rev());
            let after = common(text[found..].iter(), sent[at..].iter());
            let run = without_name(&text[found - before..found + after]);
            // Continuation bytes do not begin a character.
            longest = longest.max(run.iter().filter(|byte| **byte & 0xc0 != 0x80).count());
        }
    }
    longest
}

/// A run without the field's name that it begins with, which is ours even if it was sent before the same value.
fn without_name(run: &[u8]) -> &[u8] {
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._[]".contains(byte);
    match run.windows(2).position(|two| two == b": ") {
        Some(end) if end <= MAX_NAME && run[..end].iter().all(is_name) => &run[end + 2..],
        _ => run,
    }
}

fn common<'a>(a: impl Iterator<Item = &'a u8>, b: impl Iterator<Item = &'a u8>) -> usize {
    a.zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_measured_wherever_it_begins() {
        let sent: String = ('a'..='z').cycle().enumerate().map(|(i, c)| format!("{c}{i}")).take(90).collect();
        for start in 0..80 {
            let text = format!("it said `{}` and so on", &sent[start..start + 70]);
            assert_eq!(longest_repeated(&text, &sent), 70, "from {start}");
        }
        assert_eq!(longest_repeated("nothing of it", &sent), 0);
        assert_eq!(longest_repeated(&"é".repeat(50), &"é".repeat(100)), 50);
    }

    #[test]
    fn a_fields_own_name_is_not_repeated() {
        let value = "`".repeat(100);
        let text = format!("JobId: missing. TaskInstanceId: `{}…` is not a GUID", &value[..64]);
        assert_repeats_little("the text", &text, &format!("TaskInstanceId: {value}"));
        assert_eq!(longest_repeated(&format!("a: {value}"), &format!("a: {value}")), 100);
        assert_eq!(longest_repeated(&format!("{value}a: "), &format!("{value}a: ")), 103, "only before it");
    }

    #[test]
    #[should_panic(expected = "repeats 73 characters")]
    fn a_text_that_repeats_too_much_is_seen() {
        assert_repeats_little("the text", &format!("`{}`", "x".repeat(73)), &"x".repeat(200));
    }
}
