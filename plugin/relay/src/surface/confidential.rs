//! The credential and token of a request, so that no part of them is repeated in an answer, a log line or a list,
//! wherever else in the request it was written by mistake.

use crate::wire::percent::percent_decoded;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::borrow::Cow;

/// Minimum length of a text that counts as a part of a secret. Short names, numbers and words occur in a long token by
/// chance; 8 given characters occur in a random token in fewer than 1 of 10 billion cases. No configured secret is
/// shorter.
const MIN_PART: usize = 8;

/// Minimum common length of a text and a secret from which on the text is not repeated, even if it is not wholly a part
/// of the secret.
const MIN_COMMON: usize = 2 * MIN_PART;

/// Maximum length of a text that is repeated.
const MAX_REPEATED: usize = 1_024;

/// Maximum length of a word that is repeated if the request presents no token under its own name: the token may be
/// under another name, and no token of Azure DevOps is shorter than a GUID.
const MAX_NAME: usize = 36;

/// The error about a text that is not repeated.
pub(crate) const HIDDEN: &str = "contains a part of this request's token or credential, which is not repeated here: send it in its own field only";

/// The secrets of one request.
#[derive(Debug, Default)]
pub(crate) struct Confidential<'a> {
    secrets: Vec<Cow<'a, [u8]>>,
    has_token: bool,
}

impl<'a> Confidential<'a> {
    /// Adds the value of an `Authorization` header: the part after the scheme, and a Basic credential's password.
    pub(crate) fn add_authorization(&mut self, value: &'a [u8]) {
        let behind = value.iter().position(|c| *c == b' ').and_then(|space| value.get(space..));
        let (scheme, given) = match behind {
            Some(rest) => (value.get(..value.len().saturating_sub(rest.len())), rest.trim_ascii()),
            None => (None, value),
        };
        self.add(given.into());
        if scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"basic"))
            && let Ok(pair) = STANDARD.decode(given)
            && let Some(colon) = pair.iter().position(|c| *c == b':')
        {
            self.add(pair.get(colon + 1..).unwrap_or_default().to_vec().into());
        }
    }

    /// Adds a value of AuthToken.
    pub(crate) fn add_token(&mut self, token: Cow<'a, [u8]>) {
        self.has_token = true;
        self.add(token);
    }

    /// Whether a segment of a request's target, or a value in its query, is, holds or is a part of a secret.
    pub(crate) fn is_in_target(&self, target: &[u8]) -> bool {
        let parts = target.split(|c| b"/?&=".contains(c));
        // A password may itself contain these characters.
        std::iter::once(target).chain(parts).any(|part| {
            let once = percent_decoded(part);
            let twice = percent_decoded(&once);
            [once, twice].iter().any(|part| self.is_part_of(&String::from_utf8_lossy(part)))
        })
    }

    fn add(&mut self, secret: Cow<'a, [u8]>) {
        if secret.len() >= MIN_PART && !self.secrets.contains(&secret) {
            self.secrets.push(secret);
        }
    }

    /// Whether a text is, holds or is a part of a secret. Compared as a whole and word by word, so that a single word
    /// may be the part, and without case, which a header's name loses on its way. A password may have any character, so
    /// words are split in two ways: at characters that no token has, and at those that separate a list's items.
    pub(crate) fn is_in(&self, text: &str) -> bool {
        text.len() > MAX_REPEATED || self.is_part_of(text)
    }

    /// The same for a text of any length. Only for a bounded number of texts.
    fn is_part_of(&self, text: &str) -> bool {
        if words(text).any(is_web_token) {
            return true;
        }
        let whole = text.as_bytes().trim_ascii();
        let mut all: Vec<&[u8]> = vec![whole];
        // Most texts are one word.
        if !whole.iter().all(|c| is_of_token(*c)) {
            // A whole word is compared once.
            all.extend(items(whole).filter(|item| item.len() >= MIN_PART));
            all.extend(
                words(text).filter(|word| word.len() >= MIN_PART && !items(whole).any(|item| item == *word)),
            );
        }
        let long = all.into_iter().filter(|word| word.len() >= MIN_PART);
        let blocks: Vec<Block<'_>> = long.flat_map(blocks).collect();
        self.secrets.iter().any(|secret| {
            let is_short = secret.len() < MIN_COMMON;
            (is_short && contains(text.as_bytes(), secret)) || has_part_in(&blocks, secret)
        })
    }

    /// Whether a text must not be in an error: because it [is in](Self::is_in) a secret, or because the token may be
    /// anywhere.
    pub(crate) fn may_be_in(&self, text: &str) -> bool {
        self.is_in(text) || (!self.has_token && words(text).any(|word| word.len() > MAX_NAME))
    }
}

/// The longest pieces of a text with characters of tokens only: those of Base64 in both alphabets, and `.` and `~`.
fn words(text: &str) -> impl Iterator<Item = &[u8]> {
    text.as_bytes().split(|c| !is_of_token(*c))
}

fn is_of_token(c: u8) -> bool {
    c.is_ascii_alphanumeric() || b"-._~+/=".contains(&c)
}

/// The parts of a text between blanks and the separators of `expect`'s list.
fn items(text: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    text.split(|c| c.is_ascii_whitespace() || matches!(c, b',' | b'*'))
}

/// A JSON Web Token begins with `{"` in Base64.
fn is_web_token(word: &[u8]) -> bool {
    word.len() > MAX_NAME && word.get(..3).is_some_and(|start| start.eq_ignore_ascii_case(b"eyJ"))
}

/// Eight characters of a word, and their position. Any common part of at least 15 characters contains a block that
/// begins at a multiple of eight; a word that is wholly a part contains its first block.
struct Block<'w> {
    word: &'w [u8],
    at: usize,
    key: u64,
}

fn blocks(word: &[u8]) -> impl Iterator<Item = Block<'_>> {
    let lower = |chunk: &[u8; MIN_PART]| u64::from_be_bytes(chunk.map(|byte| byte.to_ascii_lowercase()));
    let keys = word.as_chunks().0.iter().map(lower);
    keys.enumerate().map(move |(n, key)| Block { word, at: n * MIN_PART, key })
}

fn has_part_in(blocks: &[Block<'_>], secret: &[u8]) -> bool {
    if blocks.is_empty() {
        return false;
    }
    // One look at their last character rules out most windows of a secret.
    let last = |key: u64| 1_u64 << (key & 63);
    let wanted = blocks.iter().fold(0, |all, block| all | last(block.key));
    let mut window = 0;
    for (n, byte) in secret.iter().enumerate() {
        window = window << 8 | u64::from(byte.to_ascii_lowercase());
        let Some(start) = (n + 1).checked_sub(MIN_PART).filter(|_| wanted & last(window) != 0) else {
            continue;
        };
        if blocks.iter().any(|block| block.key == window && is_part(block, secret, start)) {
            return true;
        }
    }
    false
}

/// Whether the common part around a block is the whole word, the whole secret, or long enough.
fn is_part(block: &Block<'_>, secret: &[u8], start: usize) -> bool {
    let (before, after) = block.word.split_at_checked(block.at).unwrap_or_default();
    let (secret_before, secret_after) = secret.split_at_checked(start).unwrap_or_default();
    let same = |pair: &(&u8, &u8)| pair.0.eq_ignore_ascii_case(pair.1);
    let left = before.iter().rev().zip(secret_before.iter().rev()).take_while(same).count();
    let right = after.iter().zip(secret_after).take_while(same).count();
    let common = left + right;
    common >= MIN_COMMON || common == block.word.len() || common == secret.len()
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window.eq_ignore_ascii_case(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "eyJ0eXAiOiJKV1QifQ.eyJleHAiOjE3MDB9.c2lnbmF0dXJlLW9mLWF6dXJl";
    const PASSWORD: &str = "pass word-of-9c1f04d7";

    fn confidential() -> Confidential<'static> {
        let mut confidential = Confidential::default();
        // testrelay:pass word-of-9c1f04d7
        confidential.add_authorization(b"bAsIc dGVzdHJlbGF5OnBhc3Mgd29yZC1vZi05YzFmMDRkNw==");
        confidential.add_token(TOKEN.as_bytes().into());
        confidential
    }

    #[test]
    fn a_secret_its_parts_and_what_holds_it_are_found() {
        let confidential = confidential();
        for text in [
            TOKEN.to_string(),
            PASSWORD.into(),
            "dGVzdHJlbGF5OnBhc3Mgd29yZC1vZi05YzFmMDRkNw==".into(),
            format!("shop-{TOKEN}-4711"),
            format!("my {PASSWORD}!"),
            "pass word".into(),
            TOKEN.to_lowercase(),
        ] {
            assert!(confidential.is_in(&text), "{text}");
        }
        for (from, length) in (0..TOKEN.len() - 8).flat_map(|from| [8, 9, 15, 16, 40].map(|n| (from, n))) {
            let part: String = TOKEN.chars().skip(from).take(length).collect();
            assert!(confidential.is_in(&part), "{part}");
            assert!(confidential.is_in(&format!("shop, {part}*2")), "{part}");
            if part.len() >= MIN_COMMON {
                assert!(confidential.is_in(&format!("shop-{part}-4711")), "{part}");
            }
        }
    }

    #[test]
    fn what_has_little_in_common_with_a_secret_is_not_hidden() {
        let confidential = confidential();
        for text in ["", "shop-4711", "eyJ0eXA", "word-of-x", "testrelay", "xx-word-of-9c1f-xx", "pass wo"] {
            assert!(!confidential.may_be_in(text), "{text}");
        }
        assert!(confidential.is_in(&"x".repeat(1_025)));
    }

    #[test]
    fn a_password_of_many_signs_is_found_as_a_whole_inside_of_a_text_and_in_parts() {
        for password in [
            "aB3!dE5@gH7#jK9$mN2%pQ4^",
            "kX7w!Qm2z#Lp9v$Rt4y",
            "correct horse battery",
            "p!a,s?s w/o",
            "!#$%,&*()",
        ] {
            let mut confidential = Confidential::default();
            let basic = format!("Basic {}", STANDARD.encode(format!("testrelay:{password}")));
            confidential.add_authorization(basic.as_bytes());
            for text in [
                password.to_string(),
                password.to_uppercase(),
                format!("testrelay:{password}"),
                format!("shop-e2e, x{password}x*2"),
                format!(" {password} "),
            ] {
                assert!(confidential.is_in(&text), "{text}");
            }
            for length in [8, 9, 12, password.len()].into_iter().filter(|length| *length <= password.len()) {
                for from in 0..=password.len() - length {
                    let part = &password[from..from + length];
                    assert!(confidential.is_in(part) || part.trim().len() < MIN_PART, "{part}");
                    let is_one_item = !part.contains([' ', ',', '*']);
                    assert!(!is_one_item || confidential.is_in(&format!("shop-e2e, {part}*2")), "{part}");
                }
            }
            assert!(!confidential.is_in("shop-e2e, shop-api*2, battery"), "{password}");
            let target = crate::wire::percent::percent_encoded(password);
            for target in [format!("shop-4711/{target}"), format!("shop-4711/archive?mask={password}")] {
                assert!(confidential.is_in_target(target.as_bytes()), "{target}");
            }
        }
    }

    #[test]
    fn a_secret_in_a_target_is_found_in_each_segment_and_encoding() {
        let confidential = confidential();
        for target in [
            format!("shop-4711/{TOKEN}"),
            format!("{TOKEN}?all=true"),
            format!("shop-4711/a.txt?mask={}", TOKEN.replace('.', "%2E")),
            "pass%20word-of-9c1f04d7/a.txt".into(),
            "pass%2520word-of-9c1f04d7/a.txt".into(),
        ] {
            assert!(confidential.is_in_target(target.as_bytes()), "{target}");
        }
        assert!(!confidential.is_in_target(b"shop-4711/results%2Fa.xml?all=true"));
        assert!(!confidential.is_in_target(&b"a-long-name/".repeat(200)));
    }

    #[test]
    fn a_short_secret_is_found_inside_of_a_text() {
        let mut confidential = Confidential::default();
        confidential.add_authorization(b"Bearer s3cret-pw");
        assert!(confidential.is_in("xxx-s3cret-pw-4711"));
        assert!(!confidential.is_in("xxx-s3cret-4711"));
        confidential.add_authorization(b"nothing");
        assert!(!confidential.is_in("nothing"), "shorter than any secret");
    }

    #[test]
    fn without_a_token_under_its_name_every_text_may_be_it() {
        let mut confidential = Confidential::default();
        let guid = "67be341f-5310-552f-e0cd-7c580e77b98b";
        assert!(confidential.is_in(TOKEN), "a JSON Web Token shows by itself");
        let opaque = "a".repeat(52);
        assert!(confidential.may_be_in(&opaque) && !confidential.may_be_in(guid));
        confidential.add_token(b"another-token"[..].into());
        assert!(!confidential.may_be_in(&opaque));
    }

    #[test]
    fn the_search_stays_short_whatever_a_caller_sends() {
        let token = "aaaaaaaab".repeat(1_000);
        let mut confidential = Confidential::default();
        confidential.add_token(token.as_bytes().into());
        assert!(!confidential.is_in(&"aaaaaaaac1d2e3f4".repeat(64)));
    }
}
