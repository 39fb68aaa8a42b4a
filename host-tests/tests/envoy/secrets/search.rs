//! Finds a secret in any text and in any encoding.
//!
//! The text is read plain, percent-decoded, with JSON's escapes resolved, and with two of these one after the other. In each
//! reading both halves of the secret are looked for, plain and in Base64: six forms of each, because Base64 of a longer
//! text depends on where in it the secret begins, and because there are two alphabets.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

/// How a secret was found: the readings of the text, and the form.
pub(crate) fn find(text: &[u8], secret: &str) -> Option<String> {
    let plain = ("plain".to_owned(), String::from_utf8_lossy(text).into_owned());
    let mut readings = vec![plain];
    let mut last = 0..1;
    for _ in 0..2 {
        let begin = readings.len();
        for i in last {
            let further: Vec<_> = DECODERS
                .iter()
                .filter_map(|(name, decode)| {
                    let decoded = decode(&readings[i].1);
                    (decoded != readings[i].1).then(|| (format!("{}, {name}", readings[i].0), decoded))
                })
                .collect();
            readings.extend(further);
        }
        last = begin..readings.len();
    }
    let forms = forms(secret);
    let found = |(_, text): &&(String, String), form: &str| text.contains(form);
    forms.iter().find_map(|(name, form)| {
        let (reading, _) = readings.iter().find(|reading| found(reading, form))?;
        Some(format!("{name}, the text read {reading}"))
    })
}

type Decoder = (&'static str, fn(&str) -> String);

const DECODERS: [Decoder; 3] =
    [("percent-decoded", percent_decoded), ("form-decoded", form_decoded), ("JSON", json_decoded)];

/// What is looked for.
fn forms(secret: &str) -> Vec<(String, String)> {
    assert!(secret.is_ascii() && secret.len() >= 32, "a canary is ASCII and long");
    let (head, tail) = secret.split_at(secret.len() / 2);
    let mut forms = Vec::new();
    for (name, half) in [("first half", head), ("second half", tail)] {
        forms.push((format!("{name} plain"), half.to_owned()));
        for before in 0..3 {
            forms.push((
                format!("{name} in Base64, {before} bytes behind a limit"),
                inside(&STANDARD, half, before),
            ));
            forms.push((
                format!("{name} in URL-safe Base64, {before} bytes behind a limit"),
                inside(&URL_SAFE, half, before),
            ));
        }
    }
    forms
}

/// The characters of a Base64 text that depend on `secret` alone, when it begins `before` bytes behind a multiple of three.
fn inside(alphabet: &impl Engine, secret: &str, before: usize) -> String {
    let bytes = [vec![0; before], secret.as_bytes().to_vec()].concat();
    let encoded = alphabet.encode(&bytes);
    encoded[(before * 8).div_ceil(6)..bytes.len() * 8 / 6].to_owned()
}

fn percent_decoded(text: &str) -> String {
    let hex = |at: usize| u8::from_str_radix(text.get(at + 1..at + 3)?, 16).ok();
    let mut bytes = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.as_bytes().get(at) {
        let decoded = Some(byte).filter(|byte| **byte == b'%').and_then(|_| hex(at));
        bytes.push(decoded.unwrap_or(*byte));
        at += if decoded.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn form_decoded(text: &str) -> String {
    percent_decoded(&text.replace('+', " "))
}

/// Resolves the escapes of JSON, which are those of Rust and C as well for the characters that canaries have.
fn json_decoded(text: &str) -> String {
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        decoded.push_str(before);
        let hex = after.strip_prefix('u').and_then(|hex| u32::from_str_radix(hex.get(..4)?, 16).ok());
        match (hex.and_then(char::from_u32), after.chars().next()) {
            (Some(character), _) => {
                decoded.push(character);
                rest = &after[5..];
            }
            (None, Some(character)) => {
                decoded.push(character);
                rest = &after[character.len_utf8()..];
            }
            (None, None) => rest = after,
        }
    }
    decoded + rest
}

#[cfg(test)]
mod tests {
    use super::find;
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};

    const SECRET: &str = "can/ary+of \"the\" \\search%41 with=all&that;?~>>>";

    #[track_caller]
    fn is_found(text: impl AsRef<[u8]>) {
        let text = text.as_ref();
        assert!(find(text, SECRET).is_some(), "{}", String::from_utf8_lossy(text));
    }

    #[test]
    fn a_text_without_the_secret_is_clean() {
        assert_eq!(find(b"nothing % \\ here, not even can/ary+of \"the", SECRET), None);
        assert_eq!(find(&[0xff, 0x00, b'%', b'\\'], SECRET), None);
    }

    #[test]
    fn it_is_found_plain_and_each_half_by_itself() {
        is_found(format!("a {SECRET} b"));
        let (head, tail) = SECRET.split_at(SECRET.len() / 2);
        is_found(head);
        is_found(tail);
    }

    #[test]
    fn it_is_found_percent_encoded_in_whole_or_in_part() {
        let all: String = SECRET.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let lower: String = SECRET.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let some = SECRET.replace('%', "%25").replace(' ', "%20").replace('"', "%22");
        let form = SECRET.replace('%', "%25").replace('+', "%2B").replace(' ', "+");
        [all, lower, some, form].iter().for_each(is_found);
    }

    #[test]
    fn it_is_found_in_json_and_in_json_inside_json() {
        let once = serde_json::json!({ "a": SECRET }).to_string();
        is_found(&once);
        is_found(serde_json::json!({ "b": once }).to_string());
        is_found(format!("{:?}", SECRET));
        let escaped: String = SECRET.chars().map(|c| format!("\\u{:04x}", u32::from(c))).collect();
        is_found(escaped);
        is_found(
            SECRET.replace('/', "\\/").replace('\\', "\\\\").replace("\\\\/", "\\/").replace('"', "\\\""),
        );
    }

    #[test]
    fn it_is_found_in_base64_at_every_alignment_and_in_both_alphabets() {
        for before in 0..7 {
            for after in 0..7 {
                let text = [&"<".repeat(before), SECRET, &">".repeat(after)].concat();
                is_found(STANDARD.encode(&text));
                is_found(STANDARD_NO_PAD.encode(&text));
                is_found(URL_SAFE_NO_PAD.encode(&text));
                is_found(format!(
                    "Basic%20{}",
                    STANDARD.encode(&text).replace('+', "%2B").replace('/', "%2F")
                ));
                is_found(STANDARD.encode(&text).replace('/', "\\/"));
            }
        }
    }
}
