//! Answers to calls, as text.
//!
//! Blocks with a line `---` between them. A block's first line is a status, with what else is known of the answer: its
//! media type, `retry=SECONDS`, `envoy` (Envoy made it), `huge` (too large to be read); or it is a fault: `reset`,
//! `refused`, `lost`, `no-connection`, `no-answer`. The rest is the body.

use std::time::Duration;
use testrelay::call::{Asks, Fault, Outcome, Response};

/// The most answers that are read from one input.
const MAX_ANSWERS: usize = 24;

/// Splits the line with the input's own options from the answers.
pub(crate) fn read(input: &[u8]) -> (String, Vec<Outcome>) {
    let (options, rest) = line(input);
    let mut blocks: Vec<Vec<&[u8]>> = vec![Vec::new()];
    for line in rest.split(|byte| *byte == b'\n') {
        match (line, blocks.last_mut()) {
            (b"---", _) => blocks.push(Vec::new()),
            (line, Some(block)) => block.push(line),
            (_, None) => {}
        }
    }
    let answers = blocks.iter().take(MAX_ANSWERS).map(|lines| answer(&lines.join(&b'\n'))).collect();
    (String::from_utf8_lossy(options).into_owned(), answers)
}

/// An answer 200 with a JSON body.
pub(crate) fn ok(body: &str) -> Outcome {
    answer(format!("200 application/json\n{body}").as_bytes())
}

fn answer(block: &[u8]) -> Outcome {
    let (head, body) = line(block);
    let head = String::from_utf8_lossy(head);
    let mut words = head.split_whitespace();
    let status = match words.next() {
        Some("reset") => return Outcome::Failed(Fault::Reset),
        Some("refused") => return Outcome::Failed(Fault::Refused),
        Some("lost") => return Outcome::Failed(Fault::Lost),
        Some("no-connection") => return Outcome::Failed(Fault::NoConnection),
        Some("no-answer") => return Outcome::Failed(Fault::NoAnswer),
        Some(word) => word.parse().unwrap_or(200),
        None => 200,
    };
    let mut response = Response {
        status,
        content_type: String::new(),
        asks: Asks::default(),
        from_envoy: false,
        body: Ok(body.to_vec()),
    };
    for word in words {
        match (word, word.strip_prefix("retry=").and_then(|n| n.parse().ok())) {
            (_, Some(seconds)) => response.asks.retry_after = Some(Duration::from_secs(seconds)),
            ("envoy", _) => response.from_envoy = true,
            ("huge", _) => response.body = Err(body.len() << 20),
            (media_type, None) => response.content_type = media_type.into(),
        }
    }
    Outcome::Response(response)
}

/// The first line, and what follows it.
pub(crate) fn line(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| *byte == b'\n').unwrap_or(text.len());
    (&text[..end], text.get(end + 1..).unwrap_or_default())
}
